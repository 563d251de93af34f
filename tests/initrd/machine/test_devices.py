# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Against a made-up /sys and /dev; real disks are looked for in tests/vm."""

import errno
import os
import posix
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.machine import devices
from pyinit.initrd.report.errors import Refused
from tests.initrd import partition_tables as make
from tests.initrd.harness import opens

A = "11111111-2222-3333-4444-555555555555"
B = "ABCDEF01-2345-6789-abcd-ef0123456789"


class Machine:
    """Directories that look like sysfs and devtmpfs; a device node here is a plain file."""

    def __init__(self, root: Path) -> None:
        self.devices, self.sys, self.dev = root / "devices", root / "class", root / "dev"
        for path in (self.devices, self.sys, self.dev):
            path.mkdir()

    def stands_in(self, patch: pytest.MonkeyPatch) -> None:
        """For the real ones."""
        patch.setattr(devices, "SYS", str(self.sys))
        patch.setattr(devices, "DEV", str(self.dev))
        patch.setattr(devices, "node", lambda path: path if Path(path).exists() else None)

    def disk(self, name: str, data: bytes, sector: int = 512) -> None:
        self._device(self.devices / name, name, "disk", "")
        queue = self.devices / name / "queue"
        queue.mkdir()
        (queue / "logical_block_size").write_text(f"{sector}\n")
        (self.dev / name).write_bytes(data)

    def partition(
        self, disk: str, name: str, number: int, start: int, uuid: str | None = None
    ) -> None:
        place = self.devices / disk / name
        self._device(place, name, "partition", f"PARTUUID={uuid}\n" if uuid else "")
        (place / "partition").write_text(f"{number}\n")
        (place / "start").write_text(f"{start}\n")
        (self.dev / name).write_bytes(b"")

    def _device(self, place: Path, name: str, kind: str, more: str) -> None:
        place.mkdir()
        (place / "uevent").write_text(f"MAJOR=8\nDEVNAME={name}\nDEVTYPE={kind}\n{more}")
        (self.sys / name).symlink_to(place)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    made.stands_in(monkeypatch)
    return made


def refusal(spec: str, seconds: int = 0) -> str:
    with pytest.raises(Refused) as caught:
        devices.find(spec, seconds)
    assert caught.value.step == "store"
    return str(caught.value)


@pytest.mark.parametrize("sector", [512, 4096])
def test_by_the_table_of_the_disk(machine: Machine, sector: int) -> None:
    factor = sector // 512
    machine.disk(
        "vda", bytes(make.gpt([(1, make.ESP, A, 6, 9), (2, A, B, 10, 99)], sector)), sector
    )
    machine.partition("vda", "vda1", 1, 6 * factor)
    machine.partition("vda", "vda2", 2, 10 * factor)
    assert devices.find(f"PARTUUID={A}", 0) == str(machine.dev / "vda1")
    assert devices.find(f"partuuid={B.lower()}", 0) == str(machine.dev / "vda2")
    assert devices.find_partition(B.upper(), 0) == str(machine.dev / "vda2")


def test_the_kernels_own_word_comes_first(machine: Machine) -> None:
    machine.disk("vda", b"no table at all")
    machine.partition("vda", "vda1", 1, 6, A)
    assert devices.find(f"PARTUUID={A}", 0) == str(machine.dev / "vda1")


def test_an_entry_the_kernel_does_not_have_is_not_taken(machine: Machine) -> None:
    machine.disk("vda", bytes(make.gpt([(1, make.ESP, A, 6, 9), (2, A, B, 10, 99)])))
    machine.partition("vda", "vda1", 1, 7)  # other start
    machine.partition("vda", "vda3", 3, 10)  # other number
    assert "not found after 0 s" in refusal(f"PARTUUID={A}")
    assert "not found after 0 s" in refusal(f"PARTUUID={B}")


def test_mbr(machine: Machine) -> None:
    machine.disk("sda", make.mbr([(0x83, 2048, 100)], 0xDEADBEEF))
    machine.partition("sda", "sda1", 1, 2048)
    assert devices.find("PARTUUID=DEADBEEF-01", 0) == str(machine.dev / "sda1")
    assert "not found" in refusal("PARTUUID=deadbeef-02")


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_logical_partition(machine: Machine, sector: int) -> None:
    """By its own start; sysfs counts in 512 bytes, the table in sectors."""
    rows = {0: [(5, 4, 90)], 4: [(0x83, 1, 3), (5, 10, 20)], 14: [(0x83, 2, 9)]}
    data = bytearray(20 * sector)
    for number, row in rows.items():
        data[number * sector : number * sector + 512] = make.mbr(row, 0xDEADBEEF)
    machine.disk("sda", bytes(data), sector)
    for number, start in ((1, 4), (5, 5), (6, 16)):
        machine.partition("sda", f"sda{number}", number, start * sector // 512)
    assert devices.find("PARTUUID=deadbeef-06", 0) == str(machine.dev / "sda6")
    assert devices.find("PARTUUID=deadbeef-01", 0) == str(machine.dev / "sda1")
    (machine.devices / "sda/sda6/start").write_text("7\n")
    assert "not found" in refusal("PARTUUID=deadbeef-06")
    data[14 * sector : 14 * sector + 512] = make.mbr([(0x83, 2, 9), (5, 10, 20)])
    machine.dev.joinpath("sda").write_bytes(data)
    said = "sda1: the chain of extended partitions has no end (sector 14)"
    assert said in refusal("PARTUUID=deadbeef-05")


def test_the_same_uuid_twice_is_refused(machine: Machine) -> None:
    for disk in ("vda", "vdb"):
        machine.disk(disk, b"")
        machine.partition(disk, f"{disk}1", 1, 6, A)
    text = refusal(f"PARTUUID={A}")
    assert "vda1" in text
    assert "vdb1, expected one partition" in text


def test_what_is_no_partition_is_not_looked_into(machine: Machine) -> None:
    machine.disk("vda", b"")
    machine.partition("vda", "vda1", 1, 6, B)
    (machine.devices / "vda/vda1/uevent").write_text(f"DEVTYPE=partition\nPARTUUID={A}\n")
    assert refusal(f"PARTUUID={A}").endswith("there are: vda, vda1")


def test_a_number_that_is_none(machine: Machine) -> None:
    machine.disk("vda", bytes(make.gpt([(1, make.ESP, A, 6, 9)])))
    machine.partition("vda", "vda1", 1, 6)
    (machine.devices / "vda/vda1/partition").write_bytes(b"\xff")
    assert "vda1: partition is \\\\xff" in refusal(f"PARTUUID={A}")


def test_a_disk_is_opened_without_waiting_and_once(machine: Machine) -> None:
    machine.disk("vda", bytes(make.gpt([])[:600]))
    for number in (1, 2):
        machine.partition("vda", f"vda{number}", number, 6)
    with opens() as seen:
        assert refusal(f"PARTUUID={A}").count("the disk ends before its GPT header") == 1
    assert seen[str(machine.dev / "vda")] == os.O_NONBLOCK | os.O_CLOEXEC


def test_what_is_there_is_listed_with_what_hindered(machine: Machine) -> None:
    machine.disk("vda", b"\0" * 4096)
    machine.disk("vdb", bytes(make.gpt([])[:600]))
    machine.disk("vdc", b"", 520)
    for disk in ("vda", "vdb", "vdc"):
        machine.partition(disk, f"{disk}1", 1, 6)
    (machine.dev / "vda").unlink()
    text = refusal(f"PARTUUID={A}")
    assert "there are: vda, vda1, vdb, vdb1, vdc, vdc1" in text
    assert "vda1: No such file or directory (ENOENT)" in text
    assert "vdb1: the disk ends before its GPT header" in text
    assert "vdc1: vdc has sectors of 520 bytes" in text


def test_no_block_devices(machine: Machine) -> None:
    assert "there are: none" in refusal(f"PARTUUID={A}")
    machine.sys.rmdir()
    assert "there are: none" in refusal(f"PARTUUID={A}")


def test_waits_and_loads_drivers_meanwhile(machine: Machine) -> None:
    looks = []

    def plug() -> None:
        looks.append(1)
        if len(looks) == 3:
            machine.disk("vda", b"")
            machine.partition("vda", "vda1", 1, 6, A)

    assert devices.find(f"PARTUUID={A}", 30, plug) == str(machine.dev / "vda1")
    assert len(looks) == 3


def test_no_driver_is_looked_for_where_the_device_is_there(machine: Machine) -> None:
    machine.disk("vda", b"")
    machine.partition("vda", "vda1", 1, 6, A)
    for spec in (f"PARTUUID={A}", f"{machine.dev}/vda1"):
        devices.find(spec, 30, lambda: pytest.fail("drivers are loaded"))


def test_drivers_are_loaded_once_where_it_must_not_wait(machine: Machine) -> None:
    """A bus that a first look for drivers has made may have the disk on it."""
    found = devices.find(f"{machine.dev}/vda", 0, lambda: machine.disk("vda", b""))
    assert found == f"{machine.dev}/vda"


def test_the_last_look_is_not_before_the_time_is_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 7.0, 99.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda _: machine.disk("vda", b""))
    assert devices.find(f"{machine.dev}/vda", 5) == f"{machine.dev}/vda"
    assert list(clock) == [99.0]


def test_the_disk_of_each(machine: Machine) -> None:
    machine.disk("vda", b"")
    machine.partition("vda", "vda1", 1, 6)
    assert [devices.disk_of(name) for name in ("vda", "vda1")] == ["vda", "vda"]


def test_by_name(machine: Machine) -> None:
    machine.disk("vda", b"")
    assert devices.find(f"{machine.dev}/vda", 0) == f"{machine.dev}/vda"
    assert "not found after 0 s; there are: vda" in refusal(f"{machine.dev}/vdb")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "refused: store: kernel command line: no root= on it, expected root= with the disk"),
        ("/dev/", "a form that is not known here"),
        ("/dev/../etc/passwd", "a form"),
        ("/dev//vda", "a form"),
        ("/etc/passwd", "a form"),
        ("vda1", "refused: store: vda1: a form"),
        ("LABEL=root", "expected /dev/NAME, PARTUUID=, UUID="),
        ("UUID=" + A, "a form"),
        ("/dev/disk/by-partuuid/" + A, "a link that udev makes"),
        ("PARTUUID=", "not a partition UUID"),
        (f"PARTUUID={A}/PARTNROFF=1", "not a partition UUID"),
        (f"PARTUUID={A}-", "not a partition UUID"),
        ("PARTUUID=../../etc", "not a partition UUID"),
        ("PARTUUID=g1111111-2222-3333-4444-555555555555", "not a partition UUID"),
        ("PARTUUID=deadbeef-1", "not a partition UUID"),
        ("PARTUUID=\udcff", "not a partition UUID"),
    ],
)
def test_other_forms_are_refused_at_once(
    spec: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    assert words in refusal(spec, 3600)


def test_a_name_that_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "stat", lambda _: SimpleNamespace(st_mode=0o060600))
    assert devices.find("/dev/vda", 0) == "/dev/vda"

    def fail(_path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(posix, "stat", fail)
    assert refusal("/dev/vda", 3600) == "refused: store: /dev/vda: Input/output error (EIO)"


def test_a_name_that_is_no_block_device() -> None:
    assert "not a block device" in refusal("/dev/null", 3600)
    assert "not found" in refusal("/dev/null/x")


@pytest.mark.parametrize(
    ("rootwait", "seconds"),
    [
        ([], 30),
        ([None], 3600),
        (["5"], 30),
        (["90"], 90),
        (["9999"], 3600),
        (["90", "60"], 90),
        ([""], 30),
        (["-1"], 30),
        (["\u0669\u0669"], 30),
        (["9" * 5000], 30),
    ],
)
def test_rootwait_makes_it_more_patient(rootwait: list[str | None], seconds: int) -> None:
    assert devices.patience(rootwait, [], 30) == seconds
    if None not in rootwait:
        assert devices.patience([], rootwait, 30) == seconds


def test_rootdelay_has_a_number_and_the_longest_counts() -> None:
    """Without one it is no `rootwait`."""
    assert devices.patience([], [None], 30) == 30
    assert devices.patience(["60"], [None, "40"], 30) == 60
    assert devices.patience(["40"], ["60", "50"], 30) == 60
    assert devices.patience([None], ["60"], 30) == 3600


@pytest.mark.parametrize(
    ("spec", "link"),
    [
        ("UUID=6f4e", "by-uuid/6f4e"),
        ("LABEL=root", "by-label/root"),
        ("LABEL=5\u20ac", "by-label/5\u20ac"),
        ('LABEL=a b/"ü', "by-label/a\\x20b\\x2f\\x22ü"),
        ("PARTLABEL=A:B", "by-partlabel/A:B"),
    ],
)
def test_udevs_links_where_it_runs(machine: Machine, spec: str, link: str) -> None:
    path = machine.dev / "disk" / link
    assert "not found" in refusal_of_link(spec)
    path.parent.mkdir(parents=True)
    path.touch()
    assert devices.find(spec, 0, links=True) == str(path)
    assert "a form that is not known here" in refusal(spec)
    assert "a link that udev makes" in refusal(str(path))


@pytest.mark.parametrize("spec", ["UUID=", "LABEL=..", "UUID", "uuid=a", "ID=a", "nfs:/root"])
def test_no_link_of_udev(machine: Machine, spec: str) -> None:
    assert machine.dev.exists()
    assert "a form that is not known here" in refusal_of_link(spec)


def refusal_of_link(spec: str) -> str:
    with pytest.raises(Refused) as caught:
        devices.find(spec, 0, links=True)
    return str(caught.value)
