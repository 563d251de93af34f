# SPDX-License-Identifier: Apache-2.0 OR MIT
"""ESP and XBOOTLDR of a disk, in a sysfs that is made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinit.host.uki import boot_partitions
from pyinit.initrd.kernel import mountinfo
from tests.initrd import partition_tables

ESP, XBOOTLDR = boot_partitions.KINDS
ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"


class Machine:
    """Disks with partitions, what is mounted, and the block device that the store lies on."""

    def __init__(self, top: Path) -> None:
        self.sys, self.dev = top / "sys", top / "dev"
        self.dev.mkdir()
        self.mounts: list[str] = []
        self.store = "8:1"

    def add(self, name: str, major: int, *kinds: str) -> Path:
        device = self.sys / "devices" / name
        (device / "queue").mkdir(parents=True)
        (device / "queue/logical_block_size").write_text("512\n")
        rows: list[partition_tables.Row] = []
        for index, kind in enumerate(kinds, 1):
            part = device / f"{name}{index}"
            part.mkdir()
            (part / "partition").write_text(f"{index}\n")
            (part / "dev").write_text(f"{major}:{index}\n")
            self.link(f"{major}:{index}", part)
            rows.append((index, kind, f"{index:032x}", 100 * index, 100 * index + 50))
        self.link(f"{major}:0", device)
        (self.dev / name).write_bytes(partition_tables.gpt(rows) if kinds else bytes(8192))
        return device

    def link(self, number: str, device: Path) -> None:
        place = self.sys / "dev/block" / number
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(device)

    def over(self, name: str, number: str, *below: Path) -> Path:
        """A mapped device."""
        device = self.sys / "devices/virtual" / name
        (device / "slaves").mkdir(parents=True)
        for slave in below:
            (device / "slaves" / slave.name).symlink_to(slave)
        self.link(number, device)
        return device

    def mount(self, number: str, target: str, root: str = "/") -> None:
        self.mounts.append(f"1 1 {number} {root} {target} rw - vfat /dev/x rw\n")

    def find(self) -> tuple[list[str], list[str]]:
        places, errors = boot_partitions.find(Path("/store"))
        return list(map(str, places)), [f"{error.path}: {error.found}" for error in errors]

    def unmounted(self, name: str, kind: str) -> str:
        return f"{self.dev}/{name}: the {kind} of this disk, and it is not mounted"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(boot_partitions, "SYS", machine.sys)
    monkeypatch.setattr(boot_partitions, "DEV", machine.dev)
    monkeypatch.setattr(boot_partitions, "_PLACES", ("/efi-that-is-not-there",))
    monkeypatch.setattr(boot_partitions, "_number", lambda _: machine.store)
    monkeypatch.setattr(
        mountinfo, "read", lambda: mountinfo.parse("".join(machine.mounts).encode())
    )
    return machine


def test_where_they_are_mounted(machine: Machine) -> None:
    machine.add("sda", 8, ROOT, ESP, XBOOTLDR)
    machine.add("sdb", 9, ESP)
    assert machine.find() == (
        [], [machine.unmounted("sda2", "ESP"), machine.unmounted("sda3", "XBOOTLDR")]
    )  # fmt: skip
    machine.mount("8:2", "/efi")
    assert machine.find() == (["/efi"], [machine.unmounted("sda3", "XBOOTLDR")])
    machine.mount("8:3", "/boot/loader", "/loader")  # a part of it shows no UKI
    assert len(machine.find()[1]) == 1
    machine.mount("8:3", "/boot")
    assert machine.find() == (["/efi", "/boot"], [])


def test_a_disk_without_either(machine: Machine) -> None:
    machine.add("sda", 8, ROOT)
    assert machine.find() == ([], [])


def test_a_file_system_on_a_whole_disk(machine: Machine) -> None:
    """No partition, so no table that would have to be there."""
    machine.add("sda", 8)
    machine.store = "8:0"
    assert machine.find() == ([], [])


def test_a_table_that_cannot_be_read(machine: Machine) -> None:
    machine.add("sda", 8, ROOT, ESP)
    disk = machine.dev / "sda"
    data = disk.read_bytes()
    for broken in (data[:512], data[:600], bytes(len(data)), data[:2000]):
        disk.write_bytes(broken)
        places, [error] = machine.find()
        assert not places
        assert error.startswith(f"{disk}: its partition table cannot be read: ")
    disk.unlink()
    assert machine.find() == ([], [f"{disk}: No such file or directory (ENOENT)"])


def test_what_is_over_disks(machine: Machine) -> None:
    """An encrypted volume of two disks: each may have an ESP."""
    one = machine.add("sda", 8, ROOT, ESP)
    two = machine.add("sdb", 9, ESP, ROOT)
    volume = machine.over("dm-0", "253:0", one / "sda1", two / "sdb2")
    machine.over("dm-1", "253:1", volume)
    machine.store = "253:1"
    assert machine.find()[1] == [machine.unmounted("sda2", "ESP"), machine.unmounted("sdb1", "ESP")]


def test_no_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.store = "77:7"
    places, [error] = machine.find()
    assert not places
    assert error.startswith("/store: the disk that it lies on cannot be found: ")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="proc of no block device"):
        boot_partitions._number(Path("/proc"))
