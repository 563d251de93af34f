# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an image file with state says of itself, before a kernel mounts it.

Everything in it may come from an attacker who had the disk. It must not lead to anything outside: a
journal or a second device that lies elsewhere, or mount options that nobody here chose. The kernel
checks the rest of it.
"""

# Linux, Documentation/filesystems/ext4/super.rst
_EXT4 = 1024
_EXT4_COMPAT, _EXT4_INCOMPAT = _EXT4 + 0x5C, _EXT4 + 0x60
_EXT4_JOURNAL_INODE, _EXT4_JOURNAL_DEVICE = _EXT4 + 0xE0, _EXT4 + 0xE4
_EXT4_OPTIONS, _EXT4_OPTIONS_SIZE = _EXT4 + 0x200, 64
_EXT4_HAS_JOURNAL, _EXT4_IS_JOURNAL = 0x4, 0x8

# struct btrfs_super_block, Linux, include/uapi/linux/btrfs_tree.h
_BTRFS = 0x10000
_BTRFS_FLAGS, _BTRFS_DEVICES = _BTRFS + 0x38, _BTRFS + 0x88
_BTRFS_SEEDING = 1 << 32

NEEDED = _BTRFS + 0x90
"""Bytes from the start that decide."""


def fault(kind: str, data: bytes) -> str | None:
    """What is wrong with the superblock of an ext4 or btrfs; None: nothing that is known here."""
    if len(data) < NEEDED:
        return "shorter than any file system"
    return _ext4(data) if kind == "ext4" else _btrfs(data)


def _ext4(data: bytes) -> str | None:
    if _number(data, _EXT4_INCOMPAT, 4) & _EXT4_IS_JOURNAL:
        return "the journal of another file system"
    journaled = _number(data, _EXT4_COMPAT, 4) & _EXT4_HAS_JOURNAL
    if _number(data, _EXT4_JOURNAL_DEVICE, 4) or (
        journaled and not _number(data, _EXT4_JOURNAL_INODE, 4)
    ):
        return "its journal is on another device"
    options = data[_EXT4_OPTIONS : _EXT4_OPTIONS + _EXT4_OPTIONS_SIZE].partition(b"\0")[0]
    if options:
        return f"mount options of its own, {options.decode('utf-8', 'surrogateescape')!r}"
    return None


def _btrfs(data: bytes) -> str | None:
    devices = _number(data, _BTRFS_DEVICES, 8)
    if devices != 1:
        return f"{devices} devices"
    if _number(data, _BTRFS_FLAGS, 8) & _BTRFS_SEEDING:
        return "the seed of another file system"
    return None


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
