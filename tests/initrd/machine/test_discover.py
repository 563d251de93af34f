# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Against a made-up /sys and /dev; firmware and a real disk are in tests/vm/test_by_firmware.py."""

from pathlib import Path

import pytest

from pyinit.initrd.machine import devices, discover
from pyinit.initrd.report.errors import Refused
from tests.initrd import partition_tables as make
from tests.initrd.machine.test_devices import A, B, Machine

ROOT, OTHER = discover.TYPES["x86_64"], discover.TYPES["aarch64"]
NO_AUTO = 1 << 63
NO_ROOT = "no root= on the kernel command line, and "


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """vda, which was booted from: an ESP, a root, and roots that do not count. vdb has one too."""
    made = Machine(tmp_path)
    made.stands_in(monkeypatch)
    disk(made, "vda", [(1, make.ESP, A, 6, 9), (2, OTHER, A, 10, 19), (3, ROOT, A, 20, 29),
                       (4, ROOT, A, 30, 39, NO_AUTO)])  # fmt: skip
    disk(made, "vdb", [(3, ROOT, B, 20, 29)])
    return made


def disk(machine: Machine, name: str, rows: list[make.Row], sector: int = 512) -> None:
    machine.disk(name, bytes(make.gpt(rows, sector)), sector)
    for number, _, _, first, *_ in rows:
        machine.partition(name, f"{name}{number}", number, first * sector // 512)


def find(disk: str = "vda", machine: str = "x86_64") -> str:
    return discover.find(machine, 0, None, lambda _: (disk, "" if disk else "not booted by EFI"))


def refusal(disk: str = "vda", machine: str = "x86_64") -> str:
    with pytest.raises(Refused) as caught:
        find(disk, machine)
    return str(caught.value)


def test_of_the_booted_disk_alone(machine: Machine) -> None:
    assert find() == f"{machine.dev}/vda3"
    assert find("vdb") == f"{machine.dev}/vdb3"


def test_of_this_architecture(machine: Machine) -> None:
    assert find(machine="aarch64") == f"{machine.dev}/vda2"
    text = refusal(machine="alpha")
    assert text.startswith(
        f"refused: store: root=: {NO_ROOT}no type of partition is known for alpha, expected /dev/"
    )


def test_the_types_are_those_of_the_specification() -> None:
    assert len(set(discover.TYPES.values())) == len(discover.TYPES)
    assert discover.TYPES["x86_64"] == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    assert discover.TYPES["aarch64"] == "b921b045-1df0-41c3-af44-4c6f280d3fae"
    assert discover.TYPES["riscv64"] == "72ec70a6-cf74-40e6-bd49-4bda08e8f224"
    manual = (Path(__file__).parents[3] / "man/cfs-init.8").read_text()
    for name, kind in discover.TYPES.items():
        assert f".It {name}\n{kind}\n" in manual


def test_sectors_of_4096_bytes(machine: Machine) -> None:
    disk(machine, "vdc", [(1, ROOT, A, 10, 19)], 4096)
    assert find("vdc") == f"{machine.dev}/vdc1"


def test_a_booted_disk_that_is_not_known(machine: Machine) -> None:
    assert machine.dev.exists()
    with pytest.raises(devices.NotFound) as caught:  # a driver may be to blame
        find("")
    assert str(caught.value) == (
        f"refused: store: root=: {NO_ROOT}it is not known which disk was booted from: "
        "not booted by EFI"
    )


def test_none_of_that_type(machine: Machine) -> None:
    """At once: no partition will appear in a table that is there."""
    assert refusal(machine="riscv64") == (
        f"refused: store: {machine.dev}/vda: {NO_ROOT}no partition without no-auto has the type "
        f"{discover.TYPES['riscv64']}, expected one partition"
    )


def test_two_of_that_type(machine: Machine) -> None:
    """Though the kernel has found one of them only."""
    disk(machine, "vdc", [(1, ROOT, A, 10, 19), (7, ROOT, B, 20, 29)])
    (machine.sys / "vdc7").unlink()
    assert f"{machine.dev}/vdc: {NO_ROOT}partitions 1 and 7 have the type {ROOT}, " in refusal(
        "vdc"
    )


def test_a_table_that_is_none(machine: Machine) -> None:
    machine.disk("vdc", make.mbr([(0x83, 1, 9)]))
    assert "no partition without no-auto has the type" in refusal("vdc")
    machine.disk("vdd", bytes(make.gpt([]))[:600])
    assert refusal("vdd") == (
        f"refused: store: {machine.dev}/vdd: the disk ends before its GPT header, "
        "expected a GPT with a root partition"
    )
    (machine.dev / "vdd").unlink()
    assert refusal("vdd") == (
        f"refused: store: {machine.dev}/vdd: No such file or directory (ENOENT)"
    )


def test_the_kernels_own_partition_is_taken(machine: Machine) -> None:
    """By number and start, of that disk, and when it appears."""
    place = machine.devices / "vda/vda3"
    (place / "start").write_text("21\n")
    assert f"refused: store: {machine.dev}/vda, partition 3: not found after 0 s" in refusal()
    (place / "start").write_text("no number\n")
    assert "not found" in refusal()
    (place / "start").unlink()
    assert "not found" in refusal()
    (place / "start").write_text("20\n")
    (place / "uevent").write_text("DEVTYPE=partition\n")
    (machine.dev / "None").touch()  # of that name is no device
    assert "not found" in refusal()
    (place / "start").unlink()
    waited: list[int] = []

    def booted(seconds: int) -> tuple[str, str]:
        waited.append(seconds)
        return "vda", ""

    def plug() -> None:
        (place / "start").write_text("20\n")
        (place / "uevent").write_text("DEVNAME=vda3\nDEVTYPE=partition\n")

    assert discover.find("x86_64", 7, plug, booted) == f"{machine.dev}/vda3"
    assert waited == [7]


def test_what_is_no_partition_is_passed_over(machine: Machine) -> None:
    place = machine.devices / "vda/vda3"
    (place / "uevent").write_text("DEVNAME=vda3\nDEVTYPE=disk\n")
    assert "not found" in refusal()
