# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images that the running system mounts by name, and who may name them: the UKI, whose list the
boot has left in /run, and the sealed root, which has a file for each (image_list.py).

That file is read from the root itself, and not from what is mounted over it or in it: /usr may have
an extension by now, and /etc is the disk's perhaps.
"""

import _cfs
import errno
import posix

from pyinit.initrd.handover import status
from pyinit.initrd.kernel import files
from pyinit.initrd.kernel.mounting import NEW_API
from pyinit.initrd.report.errors import Refused, Step
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config, image_list, payload

DIRECTORY = "/usr/lib/cfs/images.d"
_DISK = "/sysroot"
_REGULAR, _FORMAT = 0o100000, 0o170000


def find(name: str) -> tuple[Digest, str, bool]:
    """The digest that somebody names so, the store, and whether the sealed root lets users have it.
    CfsError: nobody names it, or two differ."""
    path = f"{DIRECTORY}/{name}.conf"
    by_uki = of_uki().get(name)
    root = existing.at("/")
    is_sealed = root is not None and root.verity == "require"
    data = _read(root.directory, path) if root is not None and is_sealed else None
    by_root, store, for_users = by_uki, "", False
    if data is not None:
        by_root, store, for_users = image_list.parse(data, path)
    if by_root is None:
        found = f"neither in {status.APPS} nor {path} in the sealed root"
        if not is_sealed:
            found = f"not in {status.APPS}, and / is no sealed root, which could have {path}"
        raise Refused("source", name, found, "an image that the UKI or the root names")
    if by_uki not in (None, by_root):
        raise Refused("source", path, str(by_root), f"{by_uki}, as the UKI has it")
    return by_root, store or _DISK + config.load(status.CONFIG).store, for_users


def of_uki() -> dict[str, Digest]:
    """Those that the UKI names, by name. CfsError."""
    path = status.APPS
    with Step("source", path):
        try:
            data = files.read(path, payload.MAX)
        except FileNotFoundError:
            return {}
    return image_list.parse_names(data, status.APPS_FIRST, path)


def _read(root: int, path: str) -> bytes | None:
    """A file of the root's own, None where there is none. A clone of its mount has nothing mounted
    in it, and no link is followed."""
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
    with Step("source", path, "a regular file of the sealed root, and no link", NEW_API):
        here = _cfs.mount_clone(root, False)
        *directories, name = path[1:].split("/")
        try:
            for each in directories:
                here = posix.open(each, flags | posix.O_DIRECTORY, dir_fd=here)
            fd = posix.open(name, flags, dir_fd=here)
        except FileNotFoundError:
            return None
        if posix.fstat(fd).st_mode & _FORMAT != _REGULAR:
            raise OSError(errno.EINVAL, "no regular file")
        return files.read_fd(fd, image_list.MAX)
