# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Does this kernel enforce, or could it? SELinux, before any policy is loaded."""

import posix

from pyinit.initrd.kernel import files

# Where selinuxfs is to be mounted: the kernel makes it where SELinux is on, and nowhere else.
_MOUNT_POINT = "/sys/fs/selinux"


def is_on() -> bool:
    """Is SELinux one of the security modules that run? False where nobody knows.

    No file of the image is asked: whether it has a policy is found out by who loads it.
    """
    try:
        posix.stat(_MOUNT_POINT)
    except OSError:
        return False
    return True


def context() -> str:
    """Of this process, where a policy is loaded; else empty."""
    if not is_on():
        return ""
    try:
        data = files.read("/proc/self/attr/current", 4096)
    except OSError:
        return ""
    # By the kernel's own words for it: "kernel" before a policy is loaded.
    text = data.rstrip(b"\0\n").decode("utf-8", "backslashreplace")
    return text if ":" in text else ""
