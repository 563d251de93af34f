# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Against a made-up /sys and /dev; a boot from two disks is in tests/vm/test_init.py."""

import errno
import os
from pathlib import Path

import pytest

from pyinit.initrd.machine import btrfs, devices, named, superblock
from pyinit.initrd.report.errors import Refused
from tests.initrd.machine.test_devices import Machine
from tests.initrd.machine.test_superblock import BTRFS, EXT4, UUID, block

OTHER_UUID = bytes(range(16))


def member(devid: int, of: int = 2, *more: tuple[int, bytes]) -> bytes:
    """A device of the file system with UUID."""
    numbers = ((0x10088, of), (0x100C9, devid))
    return block(*BTRFS, *((at, value.to_bytes(8, "little")) for at, value in numbers), *more)


class Kernel(Machine):
    """It keeps what it is told by the ioctl."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.told: list[str] = []
        self.error = 0

    def scan(self, node: str) -> None:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.told.append(node.removeprefix(f"{self.dev}/"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    made.stands_in(monkeypatch)
    monkeypatch.setattr("_cfs.btrfs_scan", made.scan)
    made.disk("vda", member(1))
    made.disk("vdb", member(2))
    return made


def never() -> tuple[str, str]:
    pytest.fail("asked which disk was booted from")


def scan(machine: Kernel, booted: str | None = None, *, degraded: bool = False) -> list[str]:
    def asked() -> tuple[str, str]:
        return (booted or "", "why not")

    machine.told.clear()
    btrfs.scan(f"{machine.dev}/vda", 0, None, never if booted is None else asked, degraded=degraded)
    return machine.told


def refusal(machine: Kernel, booted: str | None = None) -> str:
    with pytest.raises(Refused) as caught:
        scan(machine, booted)
    assert caught.value.step == "store"
    assert machine.told == []
    return str(caught.value)


def test_all_are_told_the_kernel(machine: Kernel) -> None:
    machine.disk("vdc", block(*EXT4))
    assert scan(machine) == ["vda", "vdb"]


@pytest.mark.parametrize("data", [member(1, 1), member(1, 0), block(*EXT4), b""])
def test_one_alone_is_the_kernels(machine: Kernel, data: bytes) -> None:
    """Though another says that it belongs to it."""
    (machine.dev / "vda").write_bytes(data)
    assert scan(machine) == []
    (machine.dev / "vda").unlink()
    assert scan(machine) == []


def test_signs_of_another_file_system(machine: Kernel) -> None:
    """rootfstype= says which it is."""
    (machine.dev / "vda").write_bytes(member(1, 2, *EXT4))
    assert scan(machine) == ["vda", "vdb"]


def test_one_that_goes_away_meanwhile(machine: Kernel) -> None:
    (machine.devices / "vdb/uevent").unlink()
    assert f"1 ({machine.dev}/vda)" in refusal(machine)


def test_one_that_is_missing(machine: Kernel) -> None:
    (machine.dev / "vda").write_bytes(member(1, 3))
    (machine.dev / "vdb").write_bytes(member(3, 3))
    machine.disk("vdc", b"")
    (machine.dev / "vdc").unlink()
    (machine.dev / "vdc").mkdir()
    with pytest.raises(devices.NotFound):  # a driver may be to blame
        scan(machine)
    assert refusal(machine) == (
        f"refused: store: {machine.dev}/vda: btrfs {UUID} has 3 devices, found after 0 s: "
        f"2 ({machine.dev}/vda, {machine.dev}/vdb); vdc: Is a directory (EISDIR)"
    )
    assert scan(machine, degraded=True) == ["vda", "vdb"]


def test_one_that_comes_late(machine: Kernel) -> None:
    (machine.dev / "vda").write_bytes(member(1, 3))
    (machine.dev / "vdb").write_bytes(member(3, 3))

    def plug() -> None:
        machine.disk("vdc", member(2, 3))

    btrfs.scan(f"{machine.dev}/vda", 0, plug, never, degraded=False)
    assert machine.told == ["vda", "vdc", "vdb"]


def test_degraded_waits_all_the_same(machine: Kernel) -> None:
    """Else a slow disk would be left out, and what is written without it has to be repaired."""
    (machine.dev / "vdb").write_bytes(b"")
    looks: list[int] = []

    def plug() -> None:
        looks.append(1)
        (machine.sys / "vdb").unlink()
        machine.disk("vdc", member(2))

    btrfs.scan(f"{machine.dev}/vda", 9, plug, never, degraded=True)
    assert machine.told == ["vda", "vdc"]
    assert looks == [1]


@pytest.mark.parametrize(
    "data",
    [
        member(2, 2, (0x10020, OTHER_UUID)),
        member(2, 3),
        member(2, 1),
        block(*EXT4),
        member(1),
    ],
    ids=["another UUID", "more devices", "fewer", "no btrfs", "a copy of the one that was named"],
)
def test_what_is_no_member(machine: Kernel, data: bytes) -> None:
    (machine.dev / "vdb").write_bytes(data)
    assert f"has 2 devices, found after 0 s: 1 ({machine.dev}/vda)" in refusal(machine)


def test_more_than_there_can_be(machine: Kernel) -> None:
    """Who adds a disk would have state written to it."""
    machine.disk("vdc", member(3))
    assert refusal(machine) == (
        f"refused: store: {machine.dev}/vda: btrfs {UUID} has 2 devices, found: 3 "
        f"({machine.dev}/vda, {machine.dev}/vdb, {machine.dev}/vdc), expected no more"
    )


def test_of_two_copies_the_one_on_the_booted_disk(machine: Kernel) -> None:
    machine.disk("vdc", member(2))
    assert scan(machine, "vdb") == ["vda", "vdb"]
    assert scan(machine, "vdc") == ["vda", "vdc"]
    assert f"btrfs {UUID}, device 2: on {machine.dev}/vdb and {machine.dev}/vdc, none" in refusal(
        machine, "vda"
    )
    assert "it is not known which disk was booted from: why not" in refusal(machine, "")


def test_a_kernel_that_does_not_take_it(machine: Kernel) -> None:
    machine.error = errno.ENOENT
    assert refusal(machine) == (
        f"refused: store: {machine.dev}/vda: No such file or directory (ENOENT), "
        f"expected a device of btrfs {UUID}"
    )


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ([member(1), member(2)], True),
        ([member(1)], True),
        ([member(1), member(1)], False),
        ([member(1), member(2), member(3)], False),
        ([member(1), member(2, 3)], False),
        ([member(1, 1), member(2, 1)], False),
        ([member(1), member(2, 2, (0x10020, OTHER_UUID))], False),
        ([member(1), block(*EXT4)], False),
        ([block(*EXT4), block(*EXT4)], False),
        ([member(1), member(2, 2, *EXT4)], False),
        ([member(1), b""], False),
    ],
)
def test_devices_of_one_file_system(several: list[bytes], one: bool) -> None:
    assert btrfs.is_one([superblock.read(data) for data in several]) == one


def test_they_are_no_copies_of_each_other(machine: Kernel) -> None:
    """By a name that is on all of them."""
    for spec in (f"UUID={UUID}", f"LABEL={'x' * 256}"):
        assert named.find(spec, 0, None, never) == f"{machine.dev}/vda"
    machine.disk("vdc", member(2))
    text = f"on {machine.dev}/vda and {machine.dev}/vdb and {machine.dev}/vdc, none on vdd"
    with pytest.raises(Refused, match=text):
        named.find(f"UUID={UUID}", 0, None, lambda: ("vdd", ""))


def test_two_partitions_of_one_label_are_copies(machine: Kernel) -> None:
    """The label is in the table of the disk, and not on the file system."""
    for disk in ("vda", "vdb"):
        event = machine.devices / disk / "uevent"
        event.write_text(event.read_text() + "PARTNAME=root\n")
    with pytest.raises(Refused, match="it is not known which disk was booted from"):
        named.find("PARTLABEL=root", 0, None, lambda: ("", ""))
