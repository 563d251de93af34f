# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Against a made-up /sys and /dev; a boot from such a name is in tests/vm/test_init.py."""

import os
from pathlib import Path

import pytest

from pyinit.initrd.machine import devices, named, superblock
from pyinit.initrd.report.errors import Refused
from tests.initrd.harness import opens
from tests.initrd.machine.test_devices import Machine
from tests.initrd.machine.test_superblock import EXT4, FAT, UUID, block

ROOT = block(*EXT4)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """vda with a table, an ESP and a root; vdb with a file system of its own."""
    made = Machine(tmp_path)
    made.stands_in(monkeypatch)
    made.disk("vda", ROOT)  # what lies under a table is no file system
    for number, (label, data) in enumerate((("ESP", block(*FAT)), ("root", ROOT)), 1):
        made.partition("vda", f"vda{number}", number, 2048 * number)
        (made.dev / f"vda{number}").write_bytes(data)
        event = made.devices / "vda" / f"vda{number}" / "uevent"
        event.write_text(event.read_text() + f"PARTNAME={label}\nMINOR={number}\n")
    made.disk("vdb", b"")
    return made


def find(spec: str, booted: str = "") -> str:
    return named.find(spec, 0, None, lambda: (booted, "" if booted else "why not"))


def refusal(spec: str, booted: str = "") -> str:
    with pytest.raises(Refused) as caught:
        find(spec, booted)
    assert (caught.value.step, caught.value.path) == ("store", spec)
    return str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [f"UUID={UUID}", f"UUID={UUID.upper()}", "LABEL=root", "PARTLABEL=root", "8:2", "0802", "802"],
)
def test_each_form(machine: Machine, spec: str) -> None:
    assert named.is_name(spec)
    assert find(spec) == str(machine.dev / "vda2")


@pytest.mark.parametrize("spec", ["UUID=f234-5678", "UUID=F234-5678", "LABEL=A B", "PARTLABEL=ESP"])
def test_of_fat(machine: Machine, spec: str) -> None:
    assert find(spec) == str(machine.dev / "vda1")


@pytest.mark.parametrize(
    "spec",
    ["", "UUID=", "LABEL=", "uuid=1", "/dev/vda", "PARTUUID=1", "8:", ":1", "8:x", "8:1:2",
     "12345678:1", "fe", "fe0g", "123456789", "\u0668:1"],
)  # fmt: skip
def test_no_such_form(spec: str) -> None:
    assert not named.is_name(spec)


@pytest.mark.parametrize(
    ("text", "number"),
    [("fe01", ("254", "1")), ("b300", ("179", "0")), ("12345678", ("1110", "74616"))],
)
def test_hex_is_the_kernels(text: str, number: tuple[str, str]) -> None:
    assert named._number(text) == number


def test_what_is_not_there(machine: Machine) -> None:
    text = refusal("LABEL=other")
    assert "not found after 0 s; there are: vda, vda1, vda2, vdb" in text
    assert "LABEL=Root" in refusal("LABEL=Root")  # as it is written


def test_what_hinders_is_said(machine: Machine) -> None:
    """What went away between two looks hinders nothing."""
    (machine.dev / "vdb").unlink()
    assert "vdb:" not in refusal("LABEL=other")
    (machine.dev / "vdb").mkdir()
    assert "vdb: Is a directory (EISDIR)" in refusal("LABEL=other")


def test_a_disk_that_goes_away_meanwhile_hinders_nobody(machine: Machine) -> None:
    (machine.devices / "vda/vda1/uevent").unlink()
    with opens() as seen:
        assert find("LABEL=root") == str(machine.dev / "vda2")
    assert str(machine.dev / "vda1") not in seen
    # a drive whose medium is not ready is not waited for
    assert seen[str(machine.dev / "vda2")] == os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@pytest.mark.parametrize("spec", ["PARTLABEL=root", "8:2"])
def test_a_device_without_a_node_is_passed_over(machine: Machine, spec: str) -> None:
    (machine.devices / "vda/vda2/uevent").write_text("MAJOR=8\nMINOR=2\nPARTNAME=root\n")
    assert "not found" in refusal(spec)


def test_of_two_the_one_on_the_booted_disk_counts(machine: Machine) -> None:
    (machine.dev / "vdb").write_bytes(ROOT)
    assert find("LABEL=root", "vda") == str(machine.dev / "vda2")
    assert find(f"UUID={UUID}", "vdb") == str(machine.dev / "vdb")


def test_of_two_none_is_guessed(machine: Machine) -> None:
    """State may lie on it: a stick with the label of the root must not get it."""
    (machine.dev / "vdb").write_bytes(ROOT)
    nodes = f"on {machine.dev}/vda2 and {machine.dev}/vdb"
    assert f"{nodes}, and it is not known which disk was booted from: why not" in refusal(
        "LABEL=root"
    )
    assert f"{nodes}, none on vdc, which was booted from" in refusal("LABEL=root", "vdc")
    (machine.dev / "vda1").write_bytes(ROOT)
    text = refusal("LABEL=root", "vda")
    assert "2 of them on vda, which was booted from, expected one of that name" in text


def test_a_hundred_of_one_name_are_told_in_one_bounded_line(machine: Machine) -> None:
    for number in range(3, 102):
        machine.partition("vda", f"vda{number}", number, 2048 * number)
        event = machine.devices / "vda" / f"vda{number}" / "uevent"
        event.write_text(event.read_text() + f"PARTNAME=root\nMINOR={number}\n")
    text = refusal("PARTLABEL=root", "vda")
    assert " and 96 more, 100 of them on vda, which was booted from" in text
    assert text.count("vda1") == 4


def test_where_one_has_the_name_nobody_asks_for_the_booted_disk(machine: Machine) -> None:
    found = named.find("LABEL=root", 0, None, lambda: pytest.fail("asked"))
    assert found == str(machine.dev / "vda2")


def test_a_loop_device_is_no_disk(machine: Machine) -> None:
    machine.disk("loop0", ROOT)
    machine.disk("ram1", ROOT)
    assert find("LABEL=root") == str(machine.dev / "vda2")


def test_a_device_is_read_once_however_long_it_waits(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bytes] = []
    read = superblock.read

    def count(data: bytes) -> list[superblock.Superblock]:
        looks.append(data)
        return read(data)

    for empty in (machine.dev / "vdb", machine.dev / "vda1"):
        empty.write_bytes(block())
    monkeypatch.setattr(superblock, "read", count)
    monkeypatch.setattr("time.sleep", lambda _: None)
    clock = iter(range(9))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with pytest.raises(devices.NotFound):
        named.find("LABEL=other", 5, None, lambda: ("", ""))
    assert len(looks) == 3


def test_a_device_without_content_is_read_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as an array of disks that is not started yet."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        (machine.dev / "vdb").write_bytes(ROOT)

    (machine.dev / "vda2").write_bytes(block())
    monkeypatch.setattr("time.sleep", sleep)
    assert named.find("LABEL=root", 5, None, lambda: ("", "")) == str(machine.dev / "vdb")
    assert len(naps) == 1


def test_a_partition_is_found_when_it_appears(machine: Machine) -> None:
    def plug() -> None:
        machine.partition("vda", "vda3", 3, 9999)
        (machine.dev / "vda3").write_bytes(block(*EXT4, (0x478, b"late")))

    assert named.find("LABEL=late", 0, plug, lambda: ("", "")) == str(machine.dev / "vda3")
