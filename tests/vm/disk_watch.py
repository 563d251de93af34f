# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who touches the disk between its mount and the moment when the composed root is attached.

guest-tools/disk-watch.c has the kernel list it: each directory in which any process looks for a
name (found or not, cached or not), each file that is opened, asked about or executed. It is part of
a guest's initrd, and starts before that one's own /init: nothing of another's initrd is changed.

    boot(initrd=disk_watch.watched(made), append=disk_watch.APPEND, ...)
    disk_watch.check(text of /run/disk-watch in the booted root, device, "cfs-setup-root")
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from pyinit.host.uki.cpio import write_cpio

from .initrd import file_entry
from .tools import disk_watch

APPEND = "rdinit=/disk-watch"
RESULT = "/run/disk-watch"

_WHOLE = "disk-watch: whole"
_LINE = re.compile(
    r"^\s*.+-(?P<pid>\d+) +\[\d+\] \S+ +(?P<seconds>[\d.]+): (?P<what>\w+): \([^)]*\)"
    r' comm="(?P<program>[^"]*)"(?: dev=(?P<device>\d+) ino=(?P<inode>\d+))?(?P<rest>.*)$'
)
_ROOT_INODE = 2  # ext4
_MAY_EXEC, _MAY_ACCESS, _MAY_CHDIR = 0x1, 0x10, 0x40  # MAY_* of <linux/fs.h>
# May open the root directory of the mount, and does nothing below it.
GROWERS = ("systemd-growfs",)


@dataclass(frozen=True)
class Access:
    """One line of the list."""

    seconds: float
    program: str
    pid: int
    what: str
    device: int | None
    inode: int | None
    rest: str
    """The name that was looked for and what follows it in the path; the right that was asked."""

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """None: the line says something else."""
        found = _LINE.match(line)
        if not found:
            return None
        device, inode = found["device"], found["inode"]
        return cls(
            float(found["seconds"]), found["program"], int(found["pid"]), found["what"],
            None if device is None else int(device), None if inode is None else int(inode),
            found["rest"].strip(),
        )  # fmt: skip

    @property
    def harmless(self) -> bool:
        """What needs no path into the disk: asking about the root directory of the mount, or about
        the file behind a loop device (LOOP_GET_STATUS, as udev does); and, by what grows a file
        system, opening that directory."""
        if self.what == "stat":
            return True  # who came there by a path has walked
        if self.inode != _ROOT_INODE or self.program not in GROWERS:
            return False
        if self.what == "walk":
            mask = int(self.rest.removeprefix("mask="), 16)
            return not mask & (_MAY_EXEC | _MAY_ACCESS | _MAY_CHDIR)
        return self.what == "open"

    def __str__(self) -> str:
        return f"{self.program}[{self.pid}] {self.what} inode {self.inode} {self.rest}".rstrip()


def watched(initrd: bytes) -> bytes:
    """The initrd with the watcher in it."""
    # Where one archive follows another the kernel wants it at a multiple of four.
    return initrd + bytes(-len(initrd) % 4) + archive()


def archive() -> bytes:
    """The watcher alone."""
    return write_cpio([file_entry(APPEND.partition("/")[2], disk_watch(), 0o755)])


def on_console(text: str) -> str:
    """The list as guest-tools/root-init.c shows it."""
    mark = RESULT + ": "
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line.removeprefix(mark) for line in lines if line.startswith(mark))


def number(device: str) -> int:
    """What the list calls "/dev/block/254:2", the device of the status record."""
    major, minor = device.rpartition("/")[2].split(":")
    return int(major) << 20 | int(minor)


def until_attached(text: str, ours: str) -> list[Access]:
    """The list up to the attachment, which is the first mount that our program moves after it has
    left its own mount namespace. AssertionError: a list that is not whole."""
    lines = text.replace("\r", "").splitlines()
    assert _WHOLE in lines, f"no whole list:\n{text[-2000:]}"
    accesses = sorted(filter(None, map(Access.parse, lines)), key=lambda access: access.seconds)
    left = False
    for index, access in enumerate(accesses):
        if access.program == ours and access.what == "setns":
            left = True
        elif left and access.program == ours and access.what == "attach":
            return accesses[:index]
    raise AssertionError(f"{ours} attached nothing:\n" + _listed(accesses))


def strangers(accesses: Collection[Access], ours: str) -> list[Access]:
    """All that is not ours and not harmless, on any disk."""
    return [
        access for access in accesses
        if access.device is not None and access.program != ours and not access.harmless
    ]  # fmt: skip


def check(text: str, device: str, ours: str) -> None:
    """AssertionError if another program touched a disk, or if ours was not even seen there.

    Of an ext4: a btrfs has no device number of a disk, and its root another inode.
    """
    accesses = until_attached(text, ours)
    wrong = strangers(accesses, ours)
    assert not wrong, f"not ours, before the root was attached:\n{_listed(wrong)}"
    seen = [access for access in accesses if access.device == number(device)]
    assert any(access.program == ours for access in seen), f"nobody on {device}: who was watched?"


def _listed(accesses: Sequence[Access]) -> str:
    return "\n".join(map(str, accesses[-100:]))
