# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The link that tells systemd on which block device a root lies that is not one itself.

systemd-gpt-auto-generator finds the ESP and the other partitions of the root's disk by it, and
systemd-repart the disk. udev is not asked: the name is the kernel's own.
"""

import posix

from pyinit.initrd import files, mountinfo

LINK = "/run/systemd/volatile-root"

_TYPE, _BLOCK = 0o170000, 0o060000


def device(disk: int) -> str | None:
    """Node of the block device below a mount; None where there is none (network, virtiofs)."""
    try:
        number = posix.fstat(disk).st_dev
        if posix.major(number) == 0:
            # btrfs: a number of its own, which stands for several disks; the first one is named
            mount = mountinfo.of(disk)
            if mount is None or not mount.source.startswith("/"):
                return None
            status = posix.stat(mount.source)
            if status.st_mode & _TYPE != _BLOCK:
                return None
            number = status.st_rdev
        name = f"/sys/dev/block/{posix.major(number)}:{posix.minor(number)}/uevent"
        for line in files.read(name, 4096).split(b"\n"):
            if line.startswith(b"DEVNAME="):
                return "/dev/" + line.removeprefix(b"DEVNAME=").decode("utf-8", "surrogateescape")
    except OSError:
        pass  # a hint, and not worth a root
    return None


def link(node: str) -> None:
    """Puts it at LINK, in place of another one. OSError as it is."""
    directory = LINK.rpartition("/")[0]
    try:
        posix.mkdir(directory, 0o755)
    except FileExistsError:
        pass
    temporary = LINK + ".new"
    try:
        posix.unlink(temporary)
    except FileNotFoundError:
        pass
    posix.symlink(node, temporary)
    posix.rename(temporary, LINK)
