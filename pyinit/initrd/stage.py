# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Where a root is composed unseen: a private copy of the mount namespace.

The finished tree is cloned out of it and attached by one move_mount: until then nobody sees
anything, and a process that fails or is killed leaves nothing behind. Who asks for disk() attaches
inside of the `with` too: a disk that was made writable for a root is read-only again if there is
none.
"""

import _cfs
import errno
import posix

from pyinit.initrd.errors import Step, SystemFailure, os_error
from pyinit.initrd.mounting import NEW_API, NODEV, NOEXEC, NOSUID, RDONLY, open_directory


class Stage:
    """The private namespace, entered by `with`. `target` is where the tree will be attached."""

    __slots__ = ("_disk", "_remounted", "_saved", "_top", "base", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self._disk = -1
        self._remounted = False
        self._saved: tuple[int, int, int] | None = None

    def __enter__(self) -> "Stage":
        try:
            self._saved = _cfs.namespace_enter()
        except OSError as error:
            found, expected = os_error(error), ""
            if error.errno == errno.EPERM:
                expected = "CAP_SYS_ADMIN in a mount namespace of one's own (run as root)"
            elif error.errno == errno.ENOSYS:
                found = f"this kernel, or a seccomp filter, has no unshare or mount: {found}"
            raise SystemFailure("attach", self.target, found, expected) from None
        try:
            self._top = open_directory("/")
            self.base = open_directory(self.target)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, failure: object, *_exception: object) -> None:
        if failure is not None and self._remounted:
            try:
                _cfs.mount_remount(self._disk, False)
            except OSError:
                pass  # what is told is the failure itself
        self._leave()

    def _leave(self) -> None:
        saved, self._saved = self._saved, None
        if saved is not None:
            with Step("attach", self.target, needs="setns"):
                _cfs.namespace_leave(saved)

    def strip(self) -> None:
        """The disk as it was before a running system showed it read-only and without programs."""
        with Step("attach", self.target, needs=NEW_API):
            disk = _cfs.mount_clone(self.base, False)
            _cfs.mount_set(disk, 0, RDONLY | NOSUID | NODEV | NOEXEC, False)
            _cfs.mount_attach(disk, self.base)
        self.base = open_directory(self.target)

    def disk(self) -> int:
        """What is mounted at `target`, writable in the stage, whatever it is elsewhere.

        Only who asks for it makes the file system itself writable, where it is not.
        """
        if self._disk < 0:
            with Step("state", self.target, "a disk that can be written to", NEW_API):
                disk = _cfs.mount_clone(self.base, False)
                _cfs.mount_set(disk, 0, RDONLY, False)
                self._disk = disk
                if posix.fstatvfs(disk).f_flag & posix.ST_RDONLY:
                    _cfs.mount_remount(disk, True)
                    self._remounted = True
            self.bring_in(disk)
        return self._disk

    def bring_in(self, layer: int) -> None:
        """Attaches a layer where overlayfs finds it: before 6.15 it takes no detached one.

        All are stacked on "/": paths begin below them, so they hide nothing, and they lie outside
        the tree that is handed over.
        """
        with Step("attach", self.target, needs=NEW_API):
            _cfs.mount_attach(layer, self._top)

    def attach(self, root: int) -> None:
        """The composed root, at its place."""
        with Step("attach", self.target, needs=NEW_API):
            _cfs.mount_attach(root, self.base)

    def take_out(self, root: int) -> int:
        """The finished tree, with all that is mounted inside of it: a detached copy. The namespace
        is left with it, for the one where it will be attached."""
        with Step("attach", self.target, needs=NEW_API):
            tree = _cfs.mount_clone(root, True)
        self._leave()
        return tree
