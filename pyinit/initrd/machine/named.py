# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The disk that `root=` names by UUID=, LABEL=, PARTLABEL=, MAJ:MIN or the kernel's hex number,
where no udev makes links.

Two disks may have one name: a copy, or one that somebody plugged in. The one on the disk that the
machine was booted from counts; where that does not decide, the boot is refused. State may lie on
what is chosen here, so nothing is guessed.
"""

import errno
import posix

from pyinit.initrd.machine import devices, superblock
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# No disks of a machine: nothing is found on them before somebody puts it there.
_NOT_LOOKED_AT = ("loop", "ram", "zram", "nbd", "fd")
# Drives without a medium, and what went away between two looks.
_EMPTY = (errno.ENOMEDIUM, errno.ENXIO, errno.ENODEV, errno.ENOENT)

_KEYS = ("UUID", "LABEL", "PARTLABEL")
_HEX = "0123456789abcdefABCDEF"


def is_name(spec: str) -> bool:
    """Is it one of these forms?"""
    key, equals, value = spec.partition("=")
    if equals:
        return key in _KEYS and bool(value)
    return _number(spec) is not None


def find(
    spec: str,
    seconds: int,
    each: "Callable[[], object] | None",
    booted: "Callable[[], tuple[str, str]]",
) -> str:
    """The device node; waits for it as devices.find() does. Refused("store"), devices.NotFound.

    `booted` gives the name in sysfs of the disk that the machine was booted from, or why it is not
    known. It is asked only where two devices have the name.
    """
    key, _, value = spec.partition("=")
    number = _number(spec)
    known: dict[str, list[superblock.Superblock]] = {}

    def is_it(name: str, event: dict[str, str], problems: list[str]) -> bool:
        if number is not None:
            return (event.get("MAJOR"), event.get("MINOR")) == number
        if key == "PARTLABEL":
            return event.get("PARTNAME") == value
        blocks = _superblocks(name, event, known, problems)
        if key == "LABEL":
            return any(block.label == value for block in blocks)
        return any(block.uuid == value.lower() for block in blocks)

    def look(problems: list[str]) -> str | None:
        found = _matches(is_it, problems)
        if len(found) > 1:
            found = [_only(spec, found, *booted())]
        return devices.node(f"{devices.DEV}/{found[0][1]}") if found else None

    return devices.wait(spec, seconds, each, look)


def _matches(
    is_it: "Callable[[str, dict[str, str], list[str]], bool]", problems: list[str]
) -> list[tuple[str, str]]:
    """(name in sysfs, name in /dev) of each that is it."""
    found = []
    for name in devices.names():
        event = devices.uevent(name)
        if "DEVNAME" in event and is_it(name, event, problems):
            found.append((name, event["DEVNAME"]))
    return found


def _only(spec: str, found: list[tuple[str, str]], booted: str, why_not: str) -> tuple[str, str]:
    """Of several, the one on the booted disk."""
    nodes = " and ".join(f"{devices.DEV}/{node}" for _, node in found)
    if not booted:
        text = f"on {nodes}, and it is not known which disk was booted from: {why_not}"
        raise Refused("store", spec, text, "one of that name; PARTUUID= names one")
    there = [pair for pair in found if devices.disk_of(pair[0]) == booted]
    if len(there) != 1:
        count = f"{len(there)} of them" if there else "none"
        text = f"on {nodes}, {count} on {booted}, which was booted from"
        raise Refused("store", spec, text, "one of that name; PARTUUID= names one")
    return there[0]


def _superblocks(
    name: str,
    event: dict[str, str],
    known: dict[str, list[superblock.Superblock]],
    problems: list[str],
) -> list[superblock.Superblock]:
    """The superblocks on the device, read once. A disk with partitions has none of its own."""
    if name.startswith(_NOT_LOOKED_AT):
        return []
    if devices.has_partitions(name):
        return []
    if name not in known:
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
        try:
            fd = posix.open(f"{devices.DEV}/{event['DEVNAME']}", flags)
            try:
                known[name] = superblock.read(posix.pread(fd, superblock.NEEDED, 0))
            finally:
                posix.close(fd)
        except OSError as error:
            if error.errno not in _EMPTY:
                problems.append(f"{name}: {os_error(error)}")
            return []
    return known[name]


def _number(spec: str) -> tuple[str, str] | None:
    """(major, minor) of `8:1` or of hex (`fe01`, the kernel's new_decode_dev); None: no number."""
    major, colon, minor = spec.partition(":")
    if colon:
        if all(part.isascii() and part.isdigit() and len(part) <= 7 for part in (major, minor)):
            return str(int(major)), str(int(minor))
        return None
    if not 3 <= len(spec) <= 8 or any(digit not in _HEX for digit in spec):
        return None
    device = int(spec, 16)
    return str(device >> 8 & 0xFFF), str(device & 0xFF | device >> 12 & 0xFFF00)
