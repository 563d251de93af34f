# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Could one more overlay be mounted? systemd-sysext, systemd-confext and containers want to.

overlayfs stacks two levels, and what counts as one is another thing on each kernel. So it is tried:
an overlay above a directory is made, attached nowhere, and forgotten.
"""

import _cfs
import posix

from pyinit.initrd.kernel.mounting import RDONLY

PLACES = ("/", "/usr", "/etc", "/var")
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def is_free(directory: int, objects: int) -> bool:
    """Is a level free above this directory of an attached mount?

    It needs no upper layer: with a data-only layer one directory is enough for an overlay.
    """
    try:
        mount = _cfs.overlay_mount("cfs-try", directory, objects, -1, -1, False, RDONLY)
    except OSError:
        return False
    _forget(mount)
    return True


def places(root: int, objects: int, root_is_free: bool) -> list[str]:
    """Those of PLACES where one is, in the root that lies in the stage, with all that is laid over.

    What cannot be found out is left out: it is no reason for a root to be refused. A file system is
    tried once, and the root not again where it was found to be free.
    """
    found = []
    known: dict[int, bool] = {}
    for path in PLACES:
        try:
            directory = posix.open("." + path, _DIRECTORY, dir_fd=root)
            device = posix.fstat(directory).st_dev
        except OSError:
            continue  # the image has no such directory
        if device not in known:
            tried = root_is_free and path == "/"
            known[device] = tried or is_free(directory, objects)
        if known[device]:
            found.append(path)
        _forget(directory)
    return found


def _forget(descriptor: int) -> None:
    """It is gone, whatever close(2) says; nothing was written through it."""
    try:
        posix.close(descriptor)
    except OSError:
        pass
