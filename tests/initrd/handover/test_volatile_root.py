# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The link for systemd: what it says, and that it says nothing rather than something wrong."""

import os
import posix
import stat
from pathlib import Path

import pytest

from pyinit.initrd.handover import volatile_root
from pyinit.initrd.kernel import mountinfo


class Status:
    """What posix.stat() tells."""

    def __init__(self, mode: int, dev: int = 0, rdev: int = 0) -> None:
        self.st_mode = mode
        self.st_dev = dev
        self.st_rdev = rdev


def disk(monkeypatch: pytest.MonkeyPatch, number: int, source: str | None, there: Status) -> None:
    monkeypatch.setattr(posix, "fstat", lambda _: Status(stat.S_IFDIR, dev=number))
    line = f"1 0 0:30 / /sysroot rw - btrfs {source} rw".encode() if source else None
    monkeypatch.setattr(mountinfo, "of", lambda _: mountinfo.Mount(line) if line else None)

    def status(path: str) -> Status:
        if not path:
            raise FileNotFoundError(path)
        assert path == source
        return there

    monkeypatch.setattr(posix, "stat", status)


BLOCK = Status(stat.S_IFBLK, rdev=os.makedev(8, 3))


def test_the_device_of_a_file_system_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, os.makedev(254, 2), "/dev/other", BLOCK)
    assert volatile_root.device(0) == "/dev/block/254:2"


def test_btrfs_has_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, os.makedev(0, 30), "/dev/sda3", BLOCK)
    assert volatile_root.device(0) == "/dev/block/8:3"


@pytest.mark.parametrize("source", ["/a/directory", None])
def test_without_a_block_device_nothing(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    disk(monkeypatch, os.makedev(0, 30), source, Status(stat.S_IFDIR))
    assert volatile_root.device(0) is None


def test_another_link_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "systemd" / "volatile-root"
    monkeypatch.setattr(volatile_root, "LINK", str(link))
    for number in ("8:1", "8:2"):
        volatile_root.link(f"/dev/block/{number}")
        assert os.readlink(link) == f"/dev/block/{number}"
    Path(f"{link}.new").symlink_to("/left by one that was killed")
    volatile_root.link("/dev/block/8:3")
    assert os.listdir(link.parent) == [link.name]
