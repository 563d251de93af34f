# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UUID and label, against blkid on file systems that the real tools made, and by hand."""

import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyinit.initrd.machine import superblock
from tests.vm.toolbox import Toolbox

UUID = "6f4e0f9a-35b1-4b8e-9d5c-7a31c3a1d001"
RAW = bytes.fromhex(UUID.replace("-", ""))


def block(*parts: tuple[int, bytes]) -> bytes:
    """A device with these bytes at these places, zero elsewhere."""
    data = bytearray(superblock.NEEDED)
    for at, content in parts:
        data[at : at + len(content)] = content
    return bytes(data)


def read(data: bytes) -> list[tuple[str, str, str]]:
    return [(found.fstype, found.uuid, found.label) for found in superblock.read(data)]


def blkid(path: Path) -> tuple[str, str, str]:
    """What udev would make links of."""
    said = subprocess.run(
        [shutil.which("blkid") or "/sbin/blkid", "-p", "-o", "export", path],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    lines = (line.split("=", 1) for line in said.splitlines() if "=" in line)
    found = {key: "".join(shlex.split(value)) for key, value in lines}
    return found["TYPE"], found["UUID"].lower(), found.get("LABEL", "")


@pytest.mark.parametrize(
    ("size", "command"),
    [
        (4 << 20, ("mke2fs", "-q", "-t", "ext4", "-L", "a label of 16 by")),
        (4 << 20, ("mke2fs", "-q", "-t", "ext2")),
        (128 << 20, ("mkfs.btrfs", "-q", "-L", "root of some machine")),
        (128 << 20, ("mkfs.btrfs", "-q")),
        (64 << 20, ("mkfs.vfat", "-F", "32", "-n", "ESP")),
        (16 << 20, ("mkfs.vfat", "-F", "16", "-n", "SMALL")),
        (64 << 20, ("mkfs.vfat", "-F", "32")),
    ],
)
def test_as_blkid_says(tmp_path: Path, size: int, command: tuple[str, ...]) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(size)
    Toolbox().run(*command, disk)
    fstype, uuid, label = blkid(disk)
    with disk.open("rb") as file:
        [found] = read(file.read(superblock.NEEDED))
    # ext2 and ext4 have one driver, and one magic.
    assert found == ("ext4" if fstype == "ext2" else fstype, uuid, label)


EXT4 = ((0x438, b"\x53\xef"), (0x468, RAW), (0x478, b"root"))
XFS = ((0, b"XFSB"), (32, RAW), (108, b"twelve bytes"))
F2FS = ((0x400, b"\x10\x20\xf5\xf2"), (0x46C, RAW), (0x47C, "wörld \U0001f600".encode("utf-16-le")))
BTRFS = ((0x10040, b"_BHRfS_M"), (0x10020, RAW), (0x1012B, b"x" * 256))
FAT = (
    *((510, b"\x55\xaa"), (0x52, b"FAT32   "), (0x42, b"\x29\x78\x56\x34\xf2")),
    (0x47, b"A B        "),
)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (EXT4, ("ext4", UUID, "root")),
        (XFS, ("xfs", UUID, "twelve bytes")),
        (F2FS, ("f2fs", UUID, "wörld \U0001f600")),
        (BTRFS, ("btrfs", UUID, "x" * 256)),
        (FAT, ("vfat", "f234-5678", "A B")),
        ((*FAT, (0x47, b"NO NAME    ")), ("vfat", "f234-5678", "")),
        ((*EXT4, (0x478, b"\xff\xfe\0\0")), ("ext4", UUID, "\udcff\udcfe")),
        ((*EXT4, (0x468, bytes(16))), ("ext4", "", "root")),
        ((*F2FS, (0x47C, struct.pack("<HH", 0xD800, 0x41))), ("f2fs", UUID, "")),
    ],
)
def test_each_format(parts: tuple[tuple[int, bytes], ...], found: tuple[str, str, str]) -> None:
    assert read(block(*parts)) == [found]


def test_the_devices_of_a_btrfs() -> None:
    numbers = ((0x10088, b"\x02\1\0\0\0\0\0\x80"), (0x100C9, b"\x07\0\0\0\0\1\0\0\xff"))
    [found] = superblock.read(block(*BTRFS, *numbers))
    assert (found.devices, found.devid) == (0x8000000000000102, 0x10000000007)
    [other] = superblock.read(block(*EXT4, *numbers))
    assert (other.devices, other.devid) == (0, 0)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ((0x438, b"\x53\xee"),),
        FAT[1:],
        (*FAT, (0x42, b"\x28")),
        (*FAT, (0x52, b"FAT12   ")),
    ],
)
def test_no_file_system_that_is_known(parts: tuple[tuple[int, bytes], ...]) -> None:
    assert read(block(*parts)) == []


def test_two_magics_are_two_file_systems() -> None:
    """An older one may have left its own; rootdisk.mount() refuses to guess which it is."""
    assert {kind for kind, _, _ in read(block(*EXT4, *BTRFS, *XFS, *F2FS))} == {
        "ext4", "btrfs", "xfs", "f2fs",
    }  # fmt: skip


@given(st.integers(0, superblock.NEEDED))
@example(0x468 + 8)  # within the UUID
def test_a_device_that_ends_early(size: int) -> None:
    for kind, uuid, label in read(block(*EXT4, *BTRFS)[:size]):
        assert kind in {"ext4", "btrfs"}
        assert uuid in {"", UUID}
        assert label in {"root"[:at] for at in range(5)} | {"x" * at for at in range(257)}
