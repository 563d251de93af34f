# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The disk that `root=` names by UUID=, LABEL=, PARTLABEL=, MAJ:MIN or the kernel's hex number,
where no udev makes links.

Two disks may have one name: a copy, or one that somebody plugged in. The one on the disk that the
machine was booted from counts; where that does not decide, the boot is refused. State may lie on
what is chosen here, so nothing is guessed. The devices of one btrfs are no such copies.
"""

from pyinit.initrd.machine import btrfs, devices, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyinit.initrd.machine.superblock import Superblock

_ON_IT = ("UUID", "LABEL")  # what the superblock of each device of a file system says
_KEYS = (*_ON_IT, "PARTLABEL")
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
    superblocks = probe.Superblocks()

    def is_it(name: str, event: dict[str, str], problems: list[str]) -> bool:
        if number is not None:
            return (event.get("MAJOR"), event.get("MINOR")) == number
        if key == "PARTLABEL":
            return event.get("PARTNAME") == value
        blocks = superblocks.of(name, event, problems)
        if key == "LABEL":
            return any(block.label == value for block in blocks)
        return any(block.uuid == value.lower() for block in blocks)

    def blocks_of(found: "probe.Found") -> "list[list[Superblock]]":
        return [superblocks.of(name, {"DEVNAME": node}, []) for name, node in found]

    def look(problems: list[str]) -> str | None:
        found = _matches(is_it, problems)
        if len(found) > 1 and not (key in _ON_IT and btrfs.is_one(blocks_of(found))):
            found = [probe.booted_one(spec, found, booted)]
        return devices.node(f"{devices.DEV}/{found[0][1]}") if found else None

    return devices.wait(spec, seconds, each, look)


def _matches(
    is_it: "Callable[[str, dict[str, str], list[str]], bool]", problems: list[str]
) -> "probe.Found":
    """Each that is it."""
    found = []
    for name in devices.names():
        event = devices.uevent(name)
        if "DEVNAME" in event and is_it(name, event, problems):
            found.append((name, event["DEVNAME"]))
    return found


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
