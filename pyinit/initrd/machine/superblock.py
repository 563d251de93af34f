# SPDX-License-Identifier: Apache-2.0 OR MIT
"""UUID and label of a file system, from the first bytes of its device.

Anybody who had the disk wrote them: they say which disk is meant and never what boots. So only
the magic is checked, and no checksum. Offsets and widths: each file system's own header
(fs/ext4/ext4.h, include/uapi/linux/btrfs_tree.h, include/linux/f2fs_fs.h, fs/xfs/libxfs) and, for
FAT, Microsoft's specification 1.03.
"""

from pyinit.initrd.kernel import utf16

_BTRFS = 0x10000
NEEDED = _BTRFS + 0x12B + 0x100
"""Bytes from the start of a device that are read."""

# (type, magic, where it stands, UUID of 16 bytes, label and its width)
_WITH_UUID = (
    ("ext4", b"\x53\xef", 0x438, 0x468, 0x478, 16),
    ("xfs", b"XFSB", 0, 32, 108, 12),
    ("btrfs", b"_BHRfS_M", _BTRFS + 0x40, _BTRFS + 0x20, _BTRFS + 0x12B, 0x100),
)
_DEVICES, _DEVID = _BTRFS + 0x88, _BTRFS + 0xC9  # num_devices, dev_item.devid
_F2FS, _F2FS_UUID, _F2FS_LABEL, _F2FS_UNITS = b"\x10\x20\xf5\xf2", 0x46C, 0x47C, 512
# (what the type field says, where, serial number of 4 bytes, label of 11)
_FAT = ((b"FAT32   ", 0x52, 0x43, 0x47), (b"FAT16   ", 0x36, 0x27, 0x2B))
_FAT_SIGNED = 0x29  # in the byte before the serial number: it and the label are there
_FAT_UNNAMED = b"NO NAME    "


class Superblock:
    """`uuid` in lower case (of FAT: `ABCD-1234`, and lower case too); `label` empty for none.

    Of btrfs: on how many `devices` it lies, and the number of this one. Else 0.
    """

    __slots__ = ("devices", "devid", "fstype", "label", "uuid")

    def __init__(self, fstype: str, uuid: str, label: str) -> None:
        self.fstype = fstype
        self.uuid = uuid
        self.label = label
        self.devices = 0
        self.devid = 0


def read(data: bytes) -> list[Superblock]:
    """All that the first NEEDED bytes of a device may be; a device may end before."""
    found = []
    for fstype, magic, at, uuid, label, width in _WITH_UUID:
        if data[at : at + len(magic)] == magic:
            block = Superblock(fstype, _uuid(data[uuid : uuid + 16]), _text(data[label:], width))
            if fstype == "btrfs":
                block.devices = int.from_bytes(data[_DEVICES : _DEVICES + 8], "little")
                block.devid = int.from_bytes(data[_DEVID : _DEVID + 8], "little")
            found.append(block)
    if data[0x400:0x404] == _F2FS:
        units = data[_F2FS_LABEL : _F2FS_LABEL + 2 * _F2FS_UNITS]
        found.append(Superblock("f2fs", _uuid(data[_F2FS_UUID:][:16]), _wide(units)))
    if data[510:512] == b"\x55\xaa":
        for kind, at, serial, label in _FAT:
            if data[at : at + 8] == kind and data[serial - 1] == _FAT_SIGNED:
                number = data[serial : serial + 4][::-1].hex()
                name = data[label : label + 11]
                text = "" if name == _FAT_UNNAMED else _text(name.rstrip(b" "), 11)
                found.append(Superblock("vfat", f"{number[:4]}-{number[4:]}", text))
    return found


def _uuid(data: bytes) -> str:
    """Big-endian as in RFC 9562; empty where it is not set or the device ends before it."""
    if len(data) < 16 or not any(data):
        return ""
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _text(data: bytes, width: int) -> str:
    """Up to the first NUL; bytes that are no UTF-8 as the command line has them too."""
    return data[:width].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _wide(data: bytes) -> str:
    """Up to the first NUL; empty where it is no UTF-16."""
    for at in range(0, len(data) - 1, 2):
        if data[at : at + 2] == b"\0\0":
            data = data[:at]
            break
    try:
        return utf16.decode(data)
    except ValueError:
        return ""
