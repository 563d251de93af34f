# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Where a root is composed unseen: a private copy of the mount namespace.

The finished tree is cloned out of it and attached by one move_mount: until then nobody sees
anything, and a process that fails or is killed leaves no mount behind, but one that is killed
between extensions and their root. disk() may make the file system writable. So a caller of disk()
calls attach() inside of the `with` too: a failure there makes the file system read-only again.
Only a killed process leaves it writable.
"""

import _cfs
import errno
import posix
import time

from pyinit.initrd.kernel.mounting import (
    NEW_API,
    NODEV,
    NOEXEC,
    NOSUID,
    RDONLY,
    forbidden,
    open_directory,
)
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import CfsError, Refused, Step, SystemFailure, os_error

# udev looks at each new loop device, and keeps the disk in use a moment longer than we do.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05


class Stage:
    """The private namespace, entered by `with`. `target` is where the tree will be attached.

    `mounted` is a disk that is attached nowhere: in the namespace it lies at the target, and is
    seen by nobody else. `lifted`: its attributes that disk() takes away.
    """

    __slots__ = (
        *("_disk", "_earlier", "_lifted", "_mounted", "_saved", "_top"),
        *("base", "leftovers", "target"),
    )

    def __init__(self, target: str, mounted: int = -1, lifted: int = 0) -> None:
        self.target = target
        self._mounted = mounted
        self._lifted = lifted
        self._disk = -1
        # The descriptors that were open when the disk was made writable; None: it was not.
        self._earlier: set[int] | None = None
        self._saved: tuple[int, int, int] | None = None
        # A directory on the disk, and the one name in it that is this boot's.
        self.leftovers: tuple[int, str] | None = None

    def __enter__(self) -> "Stage":
        try:
            self._saved = _cfs.namespace_enter()
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise forbidden("attach", self.target, error) from None
            found = os_error(error)
            if error.errno == errno.ENOSYS:
                found = f"this kernel, or a seccomp filter, has no unshare or mount: {found}"
            expected = "a mount namespace of its own"
            raise SystemFailure("attach", self.target, found, expected) from None
        try:
            self._top = open_directory("/")
            if self._mounted >= 0:
                with Step("attach", self.target, needs=NEW_API):
                    _cfs.mount_attach(self._mounted, open_directory(self.target))
            self.base = open_directory(self.target)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, failure: object, *_exception: object) -> None:
        try:
            self._leave()
        except CfsError:
            if failure is None:  # else that one is the cause, and is told
                raise
        finally:
            if failure is not None and self._earlier is not None:
                self._make_readonly(self._earlier)

    def _make_readonly(self, earlier: set[int]) -> None:
        """The disk as it was found. To be called outside of the namespace, whose mounts are gone.

        What was opened since is closed first, whoever opened it: a detached tree, an overlay's
        layers and a loop device keep files on the disk open for writing.
        """
        try:
            for fd in _descriptors() - earlier - {self._disk}:
                posix.close(fd)
            for _ in range(_ATTEMPTS):
                try:
                    _cfs.mount_remount(self._disk, False)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return
                time.sleep(_PAUSE_SECONDS)
            found = "in use"
        except OSError as error:
            found = os_error(error)
        # The failure itself is told by who catches it.
        output.err(f"warning: disk at {self.target} stays writable: {found}\n")

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
        """The disk at `target`, writable in the stage, whatever it is elsewhere.

        Where the file system itself is read-only, this call makes it writable.
        """
        if self._disk < 0:
            with Step("state", self.target, "a disk that can be written to", NEW_API):
                earlier = _descriptors()
                disk = _cfs.mount_clone(self.base, False)
                _cfs.mount_set(disk, 0, RDONLY | self._lifted, False)
                self._disk = disk
                if posix.fstatvfs(disk).f_flag & posix.ST_RDONLY:
                    self._make_writable(disk)
                    self._earlier = earlier
            self.bring_in(disk)
        return self._disk

    def _make_writable(self, disk: int) -> None:
        try:
            _cfs.mount_remount(disk, True)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
            # The kernel's answer where the block device is read-only. It is no matter of rights.
            found = f"the disk is write-protected: {os_error(error)}"
            raise Refused("state", self.target, found, "a disk that can be written to") from None

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


def _descriptors() -> set[int]:
    """Those of this process that are open."""
    found = set()
    for name in posix.listdir("/proc/self/fd"):
        try:
            posix.fstat(int(name))
        except OSError as error:
            if error.errno != errno.EBADF:  # that of the listing itself, closed by now
                raise
        else:
            found.add(int(name))
    return found
