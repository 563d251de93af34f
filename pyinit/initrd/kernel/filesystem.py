# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which file system a device holds, by its magic bytes: only to choose the driver to try.

Offsets and values: <linux/magic.h> and each file system's own header.
"""

import posix

from pyinit.initrd.report.errors import Refused, os_error

_MAGIC = (
    ("ext4", 0x438, b"\x53\xef"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("xfs", 0, b"XFSB"),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
)
NEEDED = 0x10048
"""Bytes from the start that decide."""


def detect(data: bytes) -> list[str]:
    """All that it could be: one as a rule, more where an older file system left its magic."""
    return [name for name, at, magic in _MAGIC if data[at : at + len(magic)] == magic]


def of_device(path: str) -> str:
    """The one file system on a device, or Refused: none known, or more than one."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            found = detect(posix.pread(fd, NEEDED, 0))
        finally:
            posix.close(fd)
    except OSError as error:
        raise Refused("store", path, os_error(error)) from None
    if len(found) != 1:
        known = ", ".join(name for name, _, _ in _MAGIC)
        what = f"signs of {' and '.join(found)}" if found else "no known file system"
        raise Refused("store", path, what, f"one of {known}, or rootfstype= to say which")
    return found[0]
