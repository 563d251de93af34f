# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The mounts of a composed root: EROFS, overlayfs above it, and the checks of both.

All of it happens in a private copy of the mount namespace (Stage). The finished tree is cloned out
of it and attached by one move_mount: until then nobody sees anything, and a process that fails or
is killed leaves nothing behind.
"""

import _cfs
import errno
import posix

from pyinit.initrd import canary, mountinfo
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import (
    LACKS,
    CfsError,
    Refused,
    Step,
    SystemFailure,
    failure,
    os_error,
)
from pyinit.initrd.image import VerifiedImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# MOUNT_ATTR_* of <linux/mount.h>
RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
NOATIME, NODIRATIME = 0x10, 0x80

_SOURCE = "composefs:"
_NEW_API = (
    "mount API of Linux 5.12 (fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr)"
)
_FEATURES = {
    "erofs": "CONFIG_EROFS_FS or module erofs",
    "overlay": "CONFIG_OVERLAY_FS or module overlay",
    "tmpfs": "CONFIG_TMPFS",
}


class Stage:
    """The private namespace, entered by `with`. `target` is where the tree will be attached."""

    __slots__ = ("_disk", "_remounted", "_saved", "_top", "base", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self._disk = -1
        self._remounted = False

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
            _cfs.namespace_leave(self._saved)
            raise
        return self

    def __exit__(self, failure: object, *_exception: object) -> None:
        with Step("attach", self.target, needs="setns"):
            _cfs.namespace_leave(self._saved)
        if failure is not None and self._remounted:
            try:
                _cfs.mount_remount(self._disk, False)
            except OSError:
                pass  # what is told is the failure itself

    def strip(self) -> None:
        """The disk as it was before a running system showed it read-only and without programs."""
        with Step("attach", self.target, needs=_NEW_API):
            disk = _cfs.mount_clone(self.base, False)
            _cfs.mount_set(disk, 0, RDONLY | NOSUID | NODEV | NOEXEC, False)
            _cfs.mount_attach(disk, self.base)
        self.base = open_directory(self.target)

    def disk(self) -> int:
        """What is mounted at `target`, writable in the stage, whatever it is elsewhere.

        Only who asks for it makes the file system itself writable, where it is not.
        """
        if self._disk < 0:
            with Step("state", self.target, "a disk that can be written to", _NEW_API):
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
        with Step("attach", self.target, needs=_NEW_API):
            _cfs.mount_attach(layer, self._top)

    def attach(self, root: int) -> None:
        """The composed root, at its place."""
        with Step("attach", self.target, needs=_NEW_API):
            _cfs.mount_attach(root, self.base)

    def take_out(self, root: int) -> int:
        """The finished tree, with all that is mounted inside of it: a detached copy."""
        with Step("attach", self.target, needs=_NEW_API):
            return _cfs.mount_clone(root, True)


class Root:
    """A composed root that lies in the stage, checked."""

    __slots__ = ("canary", "image", "lower", "mount", "objects", "used_loop")

    image: VerifiedImage
    lower: int
    objects: int
    mount: int
    used_loop: bool
    canary: str | None


def compose(
    stage: Stage,
    image: VerifiedImage,
    objects: int,
    attributes: int,
    *,
    upper: "Callable[[int], tuple[int, int]] | None" = None,
    stacked: bool = False,
) -> Root:
    """Mounts and checks. Refused by the step that failed.

    `upper` gives (upperdir, workdir) for the image's root directory. `stacked`: an overlay will
    lie above this one. The kernel stacks two levels, and some count a file-backed EROFS as one
    (6.12.63 and 6.18.3 do, later ones do not): it is over a loop device then, on every kernel.
    """
    root = Root()
    root.image = image
    root.objects = objects
    root.lower, root.used_loop = _mount_erofs(image, stacked)
    stage.bring_in(root.lower)
    root.mount = mount_overlay(
        stage.target,
        image,
        (root.lower, objects),
        upper(root.lower) if upper else (-1, -1),
        attributes,
    )
    stage.attach(root.mount)
    check_options(root.mount, image, stage.target)
    root.canary = canary.check(root.lower, root.mount, stage.target)
    return root


def _mount_erofs(image: VerifiedImage, prefer_loop: bool) -> tuple[int, bool]:
    try:
        return _cfs.erofs_mount(image.fd, image.noacl, prefer_loop)
    except OSError as error:
        raise mount_refused("erofs", image.path, error) from None


def mount_overlay(
    where: str,
    image: VerifiedImage,
    lower: tuple[int, int],
    upper: tuple[int, int],
    attributes: int,
) -> int:
    """A detached overlay of (EROFS directory, objects) and (upperdir, workdir)."""
    require = image.verity == "require"
    source = _SOURCE + image.digest.hex
    try:
        return _cfs.overlay_mount(source, *lower, *upper, require, attributes)
    except OSError as error:
        expected = ""
        if error.errno == errno.EINVAL and require:
            expected = "an overlayfs with verity=require and data-only layers (Linux 6.6)"
        raise mount_refused("overlay", where, error, expected) from None


def mount_refused(kind: str, where: str, error: OSError, expected: str = "") -> CfsError:
    """What the kernel said of a mount, and what it lacks."""
    step = kind if kind in ("erofs", "overlay") else "state"
    if error.errno in (errno.ENOSYS, errno.EPERM, *LACKS):
        return failure(step, where, error, needs=_NEW_API)
    if error.errno == errno.ENODEV:
        found = f"kernel {posix.uname().release} has no {kind}: {os_error(error)}"
        return Refused(step, where, found, _FEATURES.get(kind, f"file system {kind}"))
    found = os_error(error)
    if expected:
        found += f" by kernel {posix.uname().release}"
    return Refused(step, where, found, expected)


def check_options(mount_fd: int, image: VerifiedImage, where: str) -> None:
    """The kernel's own account of an overlay: Refused("check") unless it says verity=require.

    overlayfs shows options that differ from its defaults, so the word must be there.
    """
    with Step("check", where):
        mount = mountinfo.of(mount_fd)
    if mount is None:
        raise Refused("check", where, f"not in {mountinfo.PATH}", "the mount just made")
    if image.verity == "require" and "verity=require" not in mount.super_options:
        found = f"mount options {','.join(mount.super_options)!r}"
        raise Refused("check", where, found, "verity=require among them")


def attach(tree: int, target: str, image: VerifiedImage) -> None:
    """The one change that others see; taken back unless mountinfo shows what is expected."""
    directory = open_directory(target)
    with Step("attach", target, "a directory to mount on", _NEW_API):
        _cfs.mount_attach(tree, directory)
    try:
        check_options(tree, image, target)
    except BaseException:
        detach(target)
        raise


def detach(target: str) -> None:
    """Takes an attached root back."""
    with Step("attach", target):
        _cfs.mount_detach(target)


def mounted_at(target: str) -> Digest | None:
    """The digest of the composed root that is already mounted on a directory, if any is."""
    directory = open_directory(target)
    with Step("attach", target):
        return _mounted_on(directory)


def _mounted_on(directory: int) -> Digest | None:
    parent = posix.open("..", posix.O_PATH | posix.O_CLOEXEC, dir_fd=directory)
    if mountinfo.mount_id(parent) == mountinfo.mount_id(directory):
        return None  # inside a mount, or the root of all: no mount point
    mount = mountinfo.of(directory)
    if mount is None or mount.fstype != "overlay" or not mount.source.startswith(_SOURCE):
        return None
    if "verity=require" not in mount.super_options:
        return None
    try:
        return Digest.parse(mount.source.removeprefix(_SOURCE), mountinfo.PATH)
    except CfsError:
        return None


def open_directory(path: str, dir_fd: int = -100) -> int:
    """O_PATH descriptor of a mount point. Refused("attach")."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    try:
        return posix.open(path, flags, dir_fd=None if dir_fd == -100 else dir_fd)
    except OSError as error:
        raise failure("attach", path, error, "a directory to mount on") from None
