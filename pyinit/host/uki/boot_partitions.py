# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The ESP and XBOOTLDR partitions of the disk that something lies on, and where they are mounted.

The partition table is read from the disk itself: udev may not run. What lies under a volume manager
or is encrypted is followed to its disks. A disk that cannot be read, or a partition that is not
mounted, may have a UKI, so it is told as an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pyinit.host.failure import system_failure
from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.machine import gpt
from pyinit.initrd.report.errors import CfsError, Refused

SYS = Path("/sys")
DEV = Path("/dev")
KINDS = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "ESP",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "XBOOTLDR",
}
# systemd mounts them there when somebody looks.
_PLACES = ("/efi", "/boot", "/boot/efi")
_ADVICE = "it mounted, or --uki DIR, or --no-uki"


def find(path: Path) -> tuple[list[Path], list[CfsError]]:
    """(where they are mounted, errors) for the disks that have the file system of `path`."""
    places: list[Path] = []
    errors: list[CfsError] = []
    for place in _PLACES:
        with suppress(OSError):
            os.listdir(place)
    mounts = mountinfo.read()
    try:
        disks = _disks(path)
    except (OSError, ValueError) as error:
        found = f"the disk that it lies on cannot be found: {error}"
        return [], [Refused("source", str(path), found, "--uki DIR, or --no-uki")]
    for disk in disks:
        try:
            partitions = list(_partitions(disk))
        except OSError as error:
            errors.append(system_failure(error, str(DEV / disk.name)))
            continue
        except ValueError as error:
            found = f"its partition table cannot be read: {error}"
            errors.append(Refused("source", str(DEV / disk.name), found, "--uki DIR, or --no-uki"))
            continue
        for name, kind, number in partitions:
            targets = [
                mount.target for mount in mounts if mount.device == number and mount.root == "/"
            ]
            if targets:
                places.append(Path(targets[-1]))
            else:
                found = f"the {kind} of this disk, and it is not mounted"
                errors.append(Refused("source", str(DEV / name), found, _ADVICE))
    return places, errors


def _disks(path: Path) -> list[Path]:
    """Directories below /sys/block of the disks. ValueError: the file system has no disk."""
    number = _number(path)
    found = sorted(set(_whole(SYS / "dev/block" / number)))
    if not found:
        raise ValueError(f"no disk below block device {number}")
    return found


def _number(path: Path) -> str:
    """MAJOR:MINOR of the block device. ValueError: none."""
    device = os.stat(path).st_dev
    if os.major(device) == 0:  # btrfs, and what is no file system of a disk
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            mount = mountinfo.of(fd)
        finally:
            os.close(fd)
        if mount is None or not mount.source.startswith(f"{DEV}/"):
            raise ValueError(f"{mount.fstype if mount else 'its mount'} of no block device")
        device = os.stat(mount.source).st_rdev
    return f"{os.major(device)}:{os.minor(device)}"


def _whole(link: Path, depth: int = 0) -> Iterator[Path]:
    """The disks below a block device, by way of what it is made of."""
    device = Path(os.path.realpath(link, strict=True))
    if (device / "partition").exists():
        device = device.parent
    slaves = device / "slaves"
    below = sorted(slaves.iterdir()) if slaves.is_dir() and depth < 16 else []
    for slave in below:
        yield from _whole(slave, depth + 1)
    if not below:
        yield device


def _partitions(disk: Path) -> Iterator[tuple[str, str, str]]:
    """(name, kind, MAJOR:MINOR) of each ESP and XBOOTLDR. ValueError: no GPT is to be read."""
    numbers = {
        int((directory / "partition").read_text()): directory
        for directory in sorted(disk.iterdir())
        if (directory / "partition").exists()
    }
    # A file system, or a volume manager, may have all of a disk.
    for entry in _entries(disk) if numbers else []:
        directory = numbers.get(entry.index)
        if entry.kind in KINDS and directory is not None:
            yield directory.name, KINDS[entry.kind], (directory / "dev").read_text().strip()


def _entries(disk: Path) -> list[gpt.Entry]:
    size = int((disk / "queue/logical_block_size").read_text())
    with open(DEV / disk.name, "rb", buffering=0) as file:
        start = file.read(2 * size)
        header = gpt.header(start, size)
        file.seek(header.offset)
        return gpt.entries(header, file.read(header.count * header.entry_size))
