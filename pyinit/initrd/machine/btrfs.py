# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The devices of a btrfs that lies on several: found by their superblocks, and told to the kernel,
which looks for none itself.

Whoever had a disk wrote what makes it such a device. So one that somebody plugged in is taken in
the place of one that is missing. What is read from it is verified as all else is, and what the
configuration keeps on the disk is no safer than on any disk. For a device that is there it is not
taken, unless the machine was booted from it.
"""

import _cfs

from pyinit.initrd.machine import devices, probe
from pyinit.initrd.machine.devices import NotFound
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyinit.initrd.machine.superblock import Superblock

KIND = "btrfs"


def is_one(found: "list[list[Superblock]]") -> bool:
    """Are devices with these superblocks those of one file system, each there once?"""
    blocks = [block for several in found for block in several]
    return (
        len(blocks) == len(found)
        and all(_same(block, blocks[0]) for block in blocks)
        and len({block.devid for block in blocks}) == len(blocks) <= blocks[0].devices
    )


def scan(
    device: str,
    seconds: int,
    each: "Callable[[], object] | None",
    booted: "Callable[[], tuple[str, str]]",
    *,
    degraded: bool,
) -> None:
    """Tells the kernel all devices of the btrfs on `device`, when they are there; waits for them as
    devices.find() does. Nothing to do where it has no other. Refused("store"), devices.NotFound.

    `degraded`: after that time what is there is enough. `booted`: see probe.booted_one().
    """
    own = _own(device)
    if own is None or own.devices < 2:
        return
    members = _Members(device, own)
    try:
        devices.wait(device, seconds, each, members.look)
    except NotFound:
        if not degraded:
            more = "".join(f"; {problem}" for problem in members.problems)
            found = (
                f"{members.name} has {own.devices} devices, "
                f"found after {seconds} s: {members.there}{more}"
            )
            raise NotFound("store", device, found) from None
    for node in members.chosen(booted):
        try:
            _cfs.btrfs_scan(node)
        except OSError as error:
            raise Refused("store", node, os_error(error), f"a device of {members.name}") from None


class _Members:
    """Of the file system on `device`, which says `own` of it; the others by their numbers."""

    def __init__(self, device: str, own: "Superblock") -> None:
        self.name = f"{KIND} {own.uuid}"
        self.problems: list[str] = []
        self._device = device
        self._own = own
        self._others: dict[int, probe.Found] = {}
        self._superblocks = probe.Superblocks()

    @property
    def there(self) -> str:
        """How many were found, and their nodes."""
        nodes = [f"{devices.DEV}/{node}" for found in self._others.values() for _, node in found]
        return f"{len(self._others) + 1} ({', '.join([self._device, *nodes])})"

    def look(self, problems: list[str]) -> str | None:
        """For devices.wait(): something where all are there."""
        self._others.clear()
        self.problems = problems
        for name in devices.names():
            event = devices.uevent(name)
            for block in self._superblocks.of(name, event, problems):
                # The device itself is the one that root= has named: no copy of it counts.
                if _same(block, self._own) and block.devid != self._own.devid:
                    self._others.setdefault(block.devid, []).append((name, event["DEVNAME"]))
        return self._device if len(self._others) + 1 >= self._own.devices else None

    def chosen(self, booted: "Callable[[], tuple[str, str]]") -> list[str]:
        """The nodes, one for each number. Refused("store")."""
        if len(self._others) + 1 > self._own.devices:
            text = f"{self.name} has {self._own.devices} devices, found: {self.there}"
            raise Refused("store", self._device, text, "no more")
        nodes = [self._device]
        for devid, found in sorted(self._others.items()):
            pair = found[0]
            if len(found) > 1:
                pair = probe.booted_one(f"{self.name}, device {devid}", found, booted)
            nodes.append(f"{devices.DEV}/{pair[1]}")
        return nodes


def _own(device: str) -> "Superblock | None":
    try:
        found = probe.read(device)
    except OSError:
        return None  # the mount will tell
    blocks = [block for block in found if block.fstype == KIND]
    return blocks[0] if blocks else None


def _same(block: "Superblock", other: "Superblock") -> bool:
    """Do both say so of one btrfs? A disk that somebody adds to it, or that was away while
    the number of its devices changed, says something else."""
    return block.uuid == other.uuid and block.devices == other.devices
