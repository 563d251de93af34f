# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What every mount here needs: attributes, mount points, and words for what a kernel lacks."""

import errno
import posix

from pyinit.initrd.report.errors import LACKS, CfsError, Refused, failure, os_error

# MOUNT_ATTR_* of <linux/mount.h>
RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
NOATIME, NODIRATIME = 0x10, 0x80

NEW_API = (
    "mount API of Linux 5.12 (fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr)"
)
_FEATURES = {
    "erofs": "CONFIG_EROFS_FS or module erofs",
    "overlay": "CONFIG_OVERLAY_FS or module overlay",
    "tmpfs": "CONFIG_TMPFS",
}


def mount_refused(kind: str, where: str, error: OSError, expected: str = "") -> CfsError:
    """The refusal or system failure for a mount that the kernel did not make, with what the kernel
    lacks where its answer shows that."""
    step = kind if kind in ("erofs", "overlay") else "state"
    if error.errno in (errno.ENOSYS, errno.EPERM, *LACKS):
        return failure(step, where, error, needs=NEW_API)
    if error.errno == errno.ENODEV:
        found = f"kernel {posix.uname().release} has no {kind}: {os_error(error)}"
        return Refused(step, where, found, _FEATURES.get(kind, f"file system {kind}"))
    found = os_error(error)
    if expected:
        found += f" by kernel {posix.uname().release}"
    return Refused(step, where, found, expected)


def open_directory(path: str) -> int:
    """An O_PATH descriptor of a mount point. Refused("attach"): it cannot be opened."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    try:
        return posix.open(path, flags)
    except OSError as error:
        raise failure("attach", path, error, "a directory to mount on") from None
