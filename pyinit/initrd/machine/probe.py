# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The superblocks of the machine's block devices, and which of several copies counts."""

import errno
import posix

from pyinit.initrd.machine import devices, superblock
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Found = list[tuple[str, str]]
    """(name in sysfs, name in /dev) of each."""

# No disks of a machine: nothing is found on them before somebody puts it there.
_NOT_LOOKED_AT = ("loop", "ram", "zram", "nbd", "fd")
# Drives without a medium, and what went away between two looks.
_EMPTY = (errno.ENOMEDIUM, errno.ENXIO, errno.ENODEV, errno.ENOENT)
# Of those that are meant alike, in the line that says so.
_SHOWN = 4


class Superblocks:
    """Of all devices. What one has is read once, however often it is asked for."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, list[superblock.Superblock]] = {}

    def of(
        self, name: str, event: dict[str, str], problems: list[str]
    ) -> list[superblock.Superblock]:
        """Those of the device with that name and uevent. A disk with partitions has none of its
        own. What hinders goes into `problems`."""
        if name.startswith(_NOT_LOOKED_AT) or "DEVNAME" not in event:
            return []
        if devices.has_partitions(name):
            return []
        if name not in self._known:
            try:
                found, whole = _look(f"{devices.DEV}/{event['DEVNAME']}")
            except OSError as error:
                if error.errno not in _EMPTY:
                    problems.append(f"{name}: {os_error(error)}")
                return []
            if not whole:  # an array that is not started yet is read again
                return found
            self._known[name] = found
        return self._known[name]


def read(node: str) -> list[superblock.Superblock]:
    """All that are on the device. OSError."""
    return _look(node)[0]


def _look(node: str) -> tuple[list[superblock.Superblock], bool]:
    """And whether there was as much of the device as is looked at."""
    fd = posix.open(node, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        data = posix.pread(fd, superblock.NEEDED, 0)
        return superblock.read(data), len(data) == superblock.NEEDED
    finally:
        posix.close(fd)


def booted_one(
    spec: str, found: "Found", booted: "Callable[[], tuple[str, str]]"
) -> tuple[str, str]:
    """Of several devices that are meant alike, the one on the booted disk. Refused("store", spec).

    `booted` gives the name in sysfs of the disk that the machine was booted from, or why it is not
    known.
    """
    named = [f"{devices.DEV}/{node}" for _, node in found[:_SHOWN]]
    if len(found) > _SHOWN:
        named.append(f"{len(found) - _SHOWN} more")
    nodes = " and ".join(named)
    disk, why_not = booted()
    if not disk:
        text = f"on {nodes}, and it is not known which disk was booted from: {why_not}"
        raise Refused("store", spec, text, "one of that name; PARTUUID= names one")
    there = [pair for pair in found if devices.disk_of(pair[0]) == disk]
    if len(there) != 1:
        count = f"{len(there)} of them" if there else "none"
        text = f"on {nodes}, {count} on {disk}, which was booted from"
        raise Refused("store", spec, text, "one of that name; PARTUUID= names one")
    return there[0]
