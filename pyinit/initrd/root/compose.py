# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The mounts of a composed root: EROFS, overlayfs above it, and the checks of both."""

import _cfs
import errno

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.kernel.mounting import LOOP, NEW_API, RDONLY, mount_refused, open_directory
from pyinit.initrd.report.errors import CfsError, Refused, Step
from pyinit.initrd.root import canary, existing, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import VerifiedImage
from pyinit.initrd.root.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Detached, where it goes, and what is in it.
    Tree = tuple[int, str, VerifiedImage]


class Root:
    """A composed root that lies in the stage, checked."""

    __slots__ = ("canary", "image", "is_free", "lower", "mount", "objects", "used_loop")

    image: VerifiedImage
    lower: int
    objects: int
    mount: int
    used_loop: bool
    is_free: bool  # of overlays above it, as far as was tried
    canary: str | None


def compose(
    stage: Stage,
    image: VerifiedImage,
    objects: int,
    attributes: int,
    *,
    upper: "Callable[[int], tuple[int, int]] | None" = None,
    upper_paths: tuple[str, ...] = (),
    stacked: bool = False,
    spare: bool = False,
    source: str = existing.SOURCE,
) -> Root:
    """Mounts and checks. Refused by the step that failed.

    `upper` gives (upperdir, workdir) for the image's root directory; `upper_paths` are other paths
    of the two, which mountinfo is to show. `stacked`: an overlay will lie above this one. The
    kernel stacks two levels, and some count a file-backed EROFS as one (6.12.63 and 6.18.3 do,
    later ones do not): it is over a loop device then, on every kernel. `spare`: somebody may want
    to mount one. So it is tried, and the loop device is taken where that helps.
    """
    root = Root()
    root.image = image
    root.objects = objects

    def mount(lower: int, used_loop: bool) -> None:
        root.lower, root.used_loop = lower, used_loop
        stage.bring_in(lower)
        root.mount = mount_overlay(
            stage.target,
            image,
            (lower, objects),
            upper(lower) if upper else (-1, -1),
            attributes,
            *upper_paths,
            source=source + image.digest.hex,
        )
        stage.attach(root.mount)

    mount(*_mount_erofs(image, stacked or image.embedded))
    wanted = spare and not root.used_loop
    root.is_free = wanted and stacking.is_free(root.mount, objects)
    if wanted and not root.is_free:
        looped = _over_loop(image)
        if looped >= 0:
            detach(root.mount, stage.target)
            mount(looped, True)
    check_options(root.mount, image, stage.target)
    # Not through an upper layer, where the file may be another one, or be gone.
    sealed = root.mount
    if upper is not None:
        layers = (root.lower, objects)
        sealed = mount_overlay(stage.target, image, layers, (-1, -1), RDONLY)
    root.canary = canary.check(image, sealed, stage.target)
    return root


def _mount_erofs(image: VerifiedImage, prefer_loop: bool) -> tuple[int, bool]:
    try:
        return _cfs.erofs_mount(image.fd, image.noacl, prefer_loop)
    except OSError as error:
        expected = LOOP if image.embedded and error.errno == errno.ENOTBLK else ""
        raise mount_refused("erofs", image.path, error, expected) from None


def _over_loop(image: VerifiedImage) -> int:
    """Where nothing depends on it; -1: it cannot be had."""
    try:
        lower, used_loop = _cfs.erofs_mount(image.fd, image.noacl, True)
    except OSError:
        return -1
    return lower if used_loop else -1


def mount_overlay(
    where: str,
    image: VerifiedImage,
    lower: tuple[int, int],
    upper: tuple[int, int],
    attributes: int,
    *upper_paths: str,
    source: str | None = None,
) -> int:
    """A detached overlay of (EROFS directory, objects) and (upperdir, workdir). `source`: what
    findmnt(8) shows where it is not the whole root."""
    require = image.verity == "require"
    source = source or existing.SOURCE + image.digest.hex
    try:
        upper_path, work_path = upper_paths or (None, None)
        return _cfs.overlay_mount(
            source, *lower, *upper, require, attributes, upper_path, work_path
        )
    except OSError as error:
        expected = ""
        if error.errno == errno.EINVAL and require:
            expected = "an overlayfs with verity=require and data-only layers (Linux 6.6)"
        raise mount_refused("overlay", where, error, expected) from None


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
    with Step("attach", target, "a directory to mount on", NEW_API):
        _cfs.mount_attach(tree, directory)
    try:
        check_options(tree, image, target)
    except BaseException:
        detach(tree, target)
        raise


def attach_all(trees: "list[Tree]") -> None:
    """All of them, or none."""
    for number, each in enumerate(trees):
        try:
            attach(*each)
        except BaseException:
            for tree, target, _ in trees[:number]:
                try:
                    detach(tree, target)
                except CfsError:  # the first failure is the one that is told
                    pass
            raise


def detach(tree: int, target: str) -> None:
    """Takes an attached root back, wherever the path leads by now."""
    with Step("attach", target):
        _cfs.mount_detach(tree)


def check_free(target: str, expected: str) -> None:
    """Refused("attach") where something is mounted there."""
    directory = open_directory(target)
    with Step("attach", target):
        if existing.is_mount_point(directory):
            raise Refused("attach", target, "something is mounted there already", expected)


def mounted_at(target: str) -> Digest | None:
    """The digest of the composed root that is already mounted on a directory, if one is that is
    verified."""
    there = existing.at(target)
    return there.digest if there is not None and there.verity == "require" else None
