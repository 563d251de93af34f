# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The link that tells systemd on which block device a root lies that is not one itself.

systemd-gpt-auto-generator finds the ESP and the other partitions of the root's disk by it, and
systemd-repart the disk. It reads the number out of the text (device_path_parse_major_minor()), so
that udev, which makes /dev/block, need not run; a name like /dev/vda2 it refuses.

Where the link is, the generator also mounts partitions of that disk by their types alone, rw and
without nosuid: /home, /srv, /var, swap. An attacker who can write the disk can add them. So the
link is made only where the configuration asks for it.
"""

import posix

from pyinit.initrd.kernel import files, inode, mountinfo

LINK = "/run/systemd/volatile-root"


def device(disk: int) -> str | None:
    """/dev/block/MAJOR:MINOR of what a mount lies on; None: no block device (network, virtiofs)."""
    try:
        number = posix.fstat(disk).st_dev
        if posix.major(number) == 0:
            # btrfs: a number of its own, which stands for several disks; the first one is named
            mount = mountinfo.of(disk)
            status = posix.stat(mount.source if mount is not None else "")
            if inode.kind(status) != inode.BLOCK:
                return None
            number = status.st_rdev
    except OSError:
        return None  # a hint, and not worth a root
    return f"/dev/block/{posix.major(number)}:{posix.minor(number)}"


def link(node: str) -> None:
    """Puts it at LINK, in place of another one. OSError as it is."""
    files.make_parents(LINK)
    temporary = LINK + ".new"
    try:
        posix.unlink(temporary)
    except FileNotFoundError:
        pass
    posix.symlink(node, temporary)
    posix.rename(temporary, LINK)
