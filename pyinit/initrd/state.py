# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is laid over the sealed root: /etc, /var, and the disk at /sysroot."""

import _cfs
import errno
import posix

from pyinit.initrd import compose
from pyinit.initrd.errors import Step, failure

_DIRECTORY = posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def mount_point(root: compose.Root, name: str) -> int:
    """Descriptor of a directory of the composed root. Refused("state"): the image lacks it."""
    try:
        return posix.open(name, posix.O_PATH | _DIRECTORY, dir_fd=root.mount)
    except OSError as error:
        raise failure("state", f"/{name}", error, "a directory in the image") from None


def transient_etc(stage: compose.Stage, root: compose.Root) -> str:
    """An overlay of the image's /etc and a tmpfs: writable, forgotten at the next boot.

    Its layers are those of the root, not the root itself: an overlay on an overlay on a
    file-backed EROFS is too deep for some kernels (seen with 6.12.63 and 6.18.3: EINVAL).
    """
    with Step("state", "/etc"):
        return _transient_etc(stage, root)


def _transient_etc(stage: compose.Stage, root: compose.Root) -> str:
    point = mount_point(root, "etc")
    lower = posix.open("etc", posix.O_RDONLY | _DIRECTORY, dir_fd=root.lower)
    memory = _tmpfs("etc", compose.NODEV | compose.NOSUID)
    stage.bring_in(memory)
    upper, work = _directory(memory, "upper"), _directory(memory, "work")
    _copy_attributes(lower, upper)
    mount = compose.mount_overlay(
        "/etc", root.image, (lower, root.objects), (upper, work), compose.NODEV | compose.NOSUID
    )
    _attach(mount, point, "etc")
    compose.check_options(mount, root.image, "/etc")
    return "transient"


def volatile_var(root: compose.Root) -> str:
    """An empty tmpfs."""
    _attach(_tmpfs("var", compose.NODEV | compose.NOSUID), mount_point(root, "var"), "var")
    return "tmpfs"


def show_disk(stage: compose.Stage, root: compose.Root, readonly: bool) -> str:
    """The disk at /sysroot, where the image has that directory; never for running programs."""
    try:
        point = posix.open("sysroot", posix.O_PATH | _DIRECTORY, dir_fd=root.mount)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "not shown: no such directory in the image"
        raise failure("state", "/sysroot", error) from None
    attributes = compose.NODEV | compose.NOSUID | compose.NOEXEC
    if readonly:
        attributes |= compose.RDONLY
    try:
        disk = _cfs.mount_clone(stage.base, False)
        _cfs.mount_set(disk, attributes, 0, False)
    except OSError as error:
        raise compose.mount_refused("sysroot", "/sysroot", error) from None
    _attach(disk, point, "sysroot")
    return "read-only" if readonly else "writable"


def _tmpfs(name: str, attributes: int) -> int:
    try:
        return _cfs.fs_mount("tmpfs", [("source", f"cfs-{name}"), ("mode", "0755")], attributes)
    except OSError as error:
        raise compose.mount_refused("tmpfs", f"/{name}", error) from None


def _directory(parent: int, name: str) -> int:
    posix.mkdir(name, 0o755, dir_fd=parent)
    return posix.open(name, posix.O_RDONLY | _DIRECTORY, dir_fd=parent)


def _copy_attributes(source: int, target: int) -> None:
    """Owner, mode and xattrs: the merged directory shows those of its upper layer."""
    status = posix.fstat(source)
    posix.fchown(target, status.st_uid, status.st_gid)
    posix.fchmod(target, status.st_mode & 0o7777)
    for name in posix.listxattr(source):
        if name.startswith("trusted.overlay."):
            continue
        try:
            posix.setxattr(target, name, posix.getxattr(source, name))
        except OSError as error:
            # no SELinux, or a tmpfs without user xattrs: nobody asks for the label then
            if error.errno != errno.EOPNOTSUPP:
                raise


def _attach(mount: int, directory: int, name: str) -> None:
    try:
        _cfs.mount_attach(mount, directory)
    except OSError as error:
        raise failure("state", f"/{name}", error) from None
