# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The last step of `init`: the composed root, or second initrd, becomes `/`, and its own init takes
our place."""

import _cfs
import posix

from pyinit.initrd.kernel import interfaces, mountinfo
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, Step, os_error
from pyinit.initrd.source.config import Config


def switch(name: str, sysroot: str, settings: Config, program: str, arguments: list[str]) -> None:
    """Moves the kernel interfaces over, makes the composed root `/`, executes its init, `program`.

    It gets what the kernel gave us: the `arguments`, and the environment, which execv keeps.
    The initramfs is emptied last. A failure from the moment when the root changes ends in no shell:
    that at its path may be the image's, not the initrd's.
    """
    with Step("switch-root", sysroot):
        old_root = posix.open("/", posix.O_RDONLY | posix.O_CLOEXEC)
        mount = mountinfo.of(old_root)
        fstype = "" if mount is None else mount.fstype
        # A second initrd is a mount. decide.taken_over() has seen that it is the right one.
        second = settings.digest_source == "first-initrd" and fstype == "overlay"
        if not second and (fstype != "rootfs" or not _cfs.root_is_initramfs()):
            found = "not the initramfs that the kernel unpacked"
            raise Refused("switch-root", "/", found, "rootfs")
        for where in interfaces.PLACES:
            _cfs.mount_move(where, sysroot + where)
        if settings.failure == "shell":
            settings.failure = "reboot"
        _cfs.switch_root(sysroot, second)
    check_program(program)
    try:
        if not second:  # which is gone with its mount
            _cfs.initramfs_empty(old_root)
    except OSError as error:
        # Memory that is not freed; nothing depends on it.
        output.err(f"{name}: warning: initramfs not emptied: {os_error(error)}\n")
    try:
        posix.execv(program, [program, *arguments])
    except OSError as error:
        raise Refused("switch-root", program, os_error(error), "a program to execute") from None


def check_program(path: str) -> None:
    """Of the sealed root itself: what lies in /etc, /var or /sysroot, which `init=` may name, is
    nobody's promise. Refused("switch-root")."""
    with Step("switch-root", path):
        try:
            program = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        except FileNotFoundError:
            raise Refused("switch-root", path, "missing in the image") from None
        root = posix.open("/", posix.O_PATH | posix.O_CLOEXEC)
        if mountinfo.mount_id(program) != mountinfo.mount_id(root) and not _is_usr(program, root):
            raise Refused("switch-root", path, "not on the sealed root", "a program of the image")
        if not posix.access(path, posix.X_OK):
            raise Refused("switch-root", path, "not executable", "a program of the image")


def _is_usr(program: int, root: int) -> bool:
    """Does it lie on the root's own /usr, bound on itself (layers.bind_usr)?"""
    mount, whole = mountinfo.of(program), mountinfo.of(root)
    return (
        mount is not None
        and whole is not None
        and (mount.target, mount.root, mount.device) == ("/usr", "/usr", whole.device)
    )
