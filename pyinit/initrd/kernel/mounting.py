# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What every mount here needs: attributes, mount points, and words for what a kernel lacks."""

import errno
import posix

from pyinit.initrd.kernel import files, selinux
from pyinit.initrd.report.errors import (
    LACKS,
    CfsError,
    Refused,
    SystemFailure,
    failure,
    os_error,
    printable,
)

# MOUNT_ATTR_* of <linux/mount.h>
RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
NOATIME, STRICTATIME, NODIRATIME = 0x10, 0x20, 0x80
ATIME = 0x70
"""The bits of one number: 0 is relatime."""
NOSYMFOLLOW = 0x200000

SETATTR = "mount_setattr (Linux 5.12)"
NEW_API = (
    "mount API of Linux 5.12 (fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr)"
)
_FEATURES = {
    "erofs": "CONFIG_EROFS_FS or module erofs",
    "overlay": "CONFIG_OVERLAY_FS or module overlay",
    "tmpfs": "CONFIG_TMPFS",
}


# The inode of the first user namespace (<linux/nsfs.h>).
_FIRST_USER_NAMESPACE = 0xEFFFFFFD
_CAP_SYS_ADMIN = 21


def check_proc() -> None:
    """SystemFailure where there is no /proc: everything is asked and told through it."""
    try:
        posix.stat("/proc/self/mountinfo")
    except OSError as error:
        expected = "/proc mounted, of the PID namespace of this process: mount -t proc proc /proc"
        raise SystemFailure("attach", "/proc/self", os_error(error), expected) from None


def forbidden(step: str, where: str, error: OSError, needs: str = "") -> CfsError:
    """The failure for a call that the kernel forbids (EPERM, EACCES), with what forbids it."""
    found = os_error(error)
    if error.errno == errno.EACCES:
        context = selinux.context()
        if context:
            expected = f"a policy of SELinux that allows it to {printable(context)}"
            return Refused(step, where, found, f"{expected} (docs/howto/selinux.md)")
        return Refused(step, where, found, "no security module (AppArmor, SELinux) that forbids it")
    if _in_user_namespace():
        expected = "root of the machine: in a user namespace the kernel mounts no EROFS"
        return SystemFailure(step, where, found, expected)
    expected = "CAP_SYS_ADMIN, and no filter that forbids the call"
    if posix.geteuid() != 0:
        expected = "CAP_SYS_ADMIN (run as root)"
    elif not _may_administer():
        expected = "CAP_SYS_ADMIN, which root has not got here: a container?"
    return SystemFailure(step, where, f"{needs}: {found}" if needs else found, expected)


def _in_user_namespace() -> bool:
    try:
        return posix.stat("/proc/self/ns/user").st_ino != _FIRST_USER_NAMESPACE
    except OSError:
        return False  # a kernel without them


def _may_administer() -> bool:
    """Is CAP_SYS_ADMIN among the effective capabilities? True where nobody knows."""
    try:
        status = files.read("/proc/self/status", 65536)
    except OSError:
        return True  # `init`, before it has mounted /proc
    for line in status.split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"CapEff":
            return bool(int(value, 16) >> _CAP_SYS_ADMIN & 1)
    return True


LOOP = "module loop and nodes /dev/loop-control, /dev/loop0 and so on"


def mount_refused(kind: str, where: str, error: OSError, expected: str = "") -> CfsError:
    """The refusal or system failure for a mount that the kernel did not make, with what the kernel
    lacks where its answer shows that."""
    step = kind if kind in ("erofs", "overlay") else "state"
    if error.errno == errno.EPERM:
        return forbidden(step, where, error, NEW_API)
    if error.errno in (errno.ENOSYS, *LACKS):
        return failure(step, where, error, needs=NEW_API)
    if error.errno == errno.ENOTBLK:
        found = f"kernel {posix.uname().release} mounts it from a loop device only, and has none"
        return Refused(
            step, where, f"{found}: {os_error(error)}", expected or f"Linux 6.12, or {LOOP}"
        )
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
