# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the kernel says of a mount is read back, each time; the mounts themselves are in tests/vm.

mountinfo and the calls that mount are made up here.
"""

import _cfs
import errno
import os
import posix
from pathlib import Path
from typing import Any

import pytest

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.kernel.mounting import RDONLY
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import canary, compose, stacking
from pyinit.initrd.root.compose import Root
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import UnmeasuredImage, VerifiedImage

HEX = "ab" * 32
SEALED = f"overlay composefs:{HEX} ro,metacopy=on,verity=require"
UNCHECKED = f"overlay composefs:{HEX} ro,metacopy=on"


def line(number: int, right: str, target: str = "/mnt") -> bytes:
    return f"{number} 1 0:40 / {target} ro,relatime - {right}\n".encode()


@pytest.fixture
def image() -> VerifiedImage:
    made = VerifiedImage.__new__(VerifiedImage)
    made.fd, made.path, made.noacl = -1, "/image", False
    made.digest = Digest(1, bytes.fromhex(HEX))
    return made


class Kernel:
    """Every descriptor lies on mount 77, of which mountinfo says what it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self._path = path
        self.calls: list[str] = []
        patch.setattr(mountinfo, "PATH", str(path))
        patch.setattr(mountinfo, "mount_id", lambda _fd: 77)
        for name in ("mount_attach", "mount_detach"):
            patch.setattr(_cfs, name, lambda *_, name=name: self.calls.append(name))
        self.overlays: list[tuple[object, ...]] = []
        self.read: tuple[object, ...] = ()
        patch.setattr(_cfs, "erofs_mount", lambda *_: (8, False))
        patch.setattr(_cfs, "overlay_mount", self._overlay)
        patch.setattr(canary, "check", self._check)

    def _overlay(self, *arguments: object) -> int:
        self.overlays.append(arguments)
        return 8 + len(self.overlays)

    def _check(self, *arguments: object) -> str:
        self.read = arguments
        return "usr/canary"

    def shows(self, right: str) -> None:
        self._path.write_bytes(line(76, "tmpfs tmpfs rw") + line(77, right))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    return Kernel(monkeypatch, tmp_path / "mountinfo")


class Stage:
    target = "/sysroot"

    def __init__(self) -> None:
        self.brought_in: list[int] = []
        self.attached: list[int] = []

    def bring_in(self, layer: int) -> None:
        self.brought_in.append(layer)

    def attach(self, root: int) -> None:
        self.attached.append(root)


def composed(image: VerifiedImage) -> Root:
    return compose.compose(Stage(), image, 7, 1)  # type: ignore[arg-type]


def test_what_is_mounted_and_what_is_read(kernel: Kernel, image: VerifiedImage) -> None:
    """Below an upper layer the sealed files are read through an overlay without one."""
    kernel.shows(SEALED)
    assert composed(image).mount == 9
    sealed = (f"composefs:{HEX}", 8, 7, -1, -1, True)
    assert kernel.overlays == [(*sealed, 1, None, None)]
    assert kernel.read == (image, 9, "/sysroot")
    stage: Any = Stage()
    for paths in ((), ("/u", "/w")):
        kernel.overlays.clear()
        root = compose.compose(
            stage, image, 7, 2, upper=lambda lower: (lower, 5), upper_paths=paths
        )
        assert root.mount == 9
        assert (stage.brought_in.pop(), stage.attached.pop()) == (8, 9)
        writable = (f"composefs:{HEX}", 8, 7, 8, 5, True, 2, *(paths or (None, None)))
        assert kernel.overlays == [writable, (*sealed, RDONLY, None, None)]
        assert kernel.read == (image, 10, "/sysroot")


@pytest.mark.parametrize("error", [0, errno.EINVAL, errno.ENOMEM])
@pytest.mark.parametrize("loop", [True, False, None])
def test_a_level_is_kept_free_by_a_loop_device(
    kernel: Kernel, image: VerifiedImage, monkeypatch: pytest.MonkeyPatch,
    error: int, loop: bool | None,
) -> None:  # fmt: skip
    """Where a file-backed EROFS counts as one: the same root again. Where there is no such device,
    the first one stays."""
    kernel.shows(SEALED)
    asked: list[bool] = []

    def erofs(_image: int, _noacl: bool, prefer_loop: bool) -> tuple[int, bool]:
        asked.append(prefer_loop)
        if prefer_loop and loop is None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return (18 if prefer_loop and loop else 8), prefer_loop and bool(loop)

    def is_free(*tried: int) -> bool:
        assert tried == (9, 7)
        return not error

    monkeypatch.setattr(_cfs, "erofs_mount", erofs)
    monkeypatch.setattr(stacking, "is_free", is_free)
    stage: Any = Stage()
    root = compose.compose(stage, image, 7, 1, spare=True)
    again = bool(error and loop)
    assert asked == ([False, True] if error else [False])
    assert (root.lower, root.mount, root.used_loop) == ((18, 10, True) if again else (8, 9, False))
    assert [overlay[1] for overlay in kernel.overlays] == ([8, 18] if again else [8])
    assert stage.attached == ([9, 10] if again else [9])
    assert kernel.calls == (["mount_detach"] if again else [])
    assert kernel.read == (image, 10 if again else 9, "/sysroot")


def test_where_nobody_asks_for_a_free_level_none_is_tried(
    kernel: Kernel, image: VerifiedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where the image is over a loop device already."""
    kernel.shows(SEALED)
    monkeypatch.setattr(stacking, "is_free", lambda *_: pytest.fail("tried"))
    assert composed(image).mount == 9
    monkeypatch.setattr(_cfs, "erofs_mount", lambda *_: (8, True))
    stage: Any = Stage()
    assert compose.compose(stage, image, 7, 1, spare=True).used_loop


def test_another_source_is_that_of_the_root_alone(kernel: Kernel, image: VerifiedImage) -> None:
    kernel.shows(SEALED)
    stage: Any = Stage()
    compose.compose(stage, image, 7, 2, upper=lambda _: (8, 5), source="transient:composefs=")
    sources = [overlay[0] for overlay in kernel.overlays]
    assert sources == [f"transient:composefs={HEX}", f"composefs:{HEX}"]


def test_without_verity_it_is_not_asked_for(kernel: Kernel) -> None:
    unmeasured = UnmeasuredImage.__new__(UnmeasuredImage)
    unmeasured.fd, unmeasured.path, unmeasured.noacl = -1, "/image", False
    unmeasured.digest = Digest(1, bytes.fromhex(HEX))
    kernel.shows(UNCHECKED)
    assert composed(unmeasured).canary == "usr/canary"
    assert [overlay[5] for overlay in kernel.overlays] == [False]


@pytest.mark.parametrize(
    ("number", "measured", "expected"),
    [
        (errno.EINVAL, True, "an overlayfs with verity=require and data-only layers (Linux 6.6)"),
        (errno.EINVAL, False, ""),
        (errno.EIO, True, ""),
    ],
)
def test_what_the_kernel_does_not_mount_is_refused(
    kernel: Kernel,
    image: VerifiedImage,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    measured: bool,
    expected: str,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    if not measured:
        image.__class__ = UnmeasuredImage
    monkeypatch.setattr(_cfs, "overlay_mount", fail)
    with pytest.raises(Refused, match="overlay: /sysroot") as caught:
        composed(image)
    assert caught.value.expected == expected
    monkeypatch.setattr(_cfs, "erofs_mount", fail)
    with pytest.raises(Refused, match="erofs: /image"):
        composed(image)


def test_a_root_that_the_kernel_shows_without_verity_is_refused(
    kernel: Kernel, image: VerifiedImage
) -> None:
    """Without it objects are not verified when they are read."""
    kernel.shows(SEALED)
    assert composed(image).canary == "usr/canary"
    for right in (UNCHECKED, UNCHECKED + ",verity=on", UNCHECKED + ",lowerdir=verity=require/x"):
        kernel.shows(right)
        with pytest.raises(Refused, match=r"check: /sysroot: mount options .*verity=require"):
            composed(image)


def test_a_root_that_the_kernel_does_not_show_is_refused(
    kernel: Kernel, image: VerifiedImage
) -> None:
    kernel._path.write_bytes(line(76, SEALED))
    with pytest.raises(Refused, match="check: /sysroot: not in "):
        composed(image)


def test_what_was_attached_is_read_back_and_taken_back(
    kernel: Kernel, image: VerifiedImage, tmp_path: Path
) -> None:
    kernel.shows(SEALED)
    compose.attach(9, str(tmp_path), image)
    assert kernel.calls == ["mount_attach"]
    kernel.shows(UNCHECKED)
    with pytest.raises(Refused, match="check"):
        compose.attach(9, str(tmp_path), image)
    assert kernel.calls == ["mount_attach", "mount_attach", "mount_detach"]


@pytest.mark.parametrize(
    ("right", "is_root"),
    [
        (SEALED, True),
        (UNCHECKED, False),
        (SEALED.replace("overlay", "tmpfs"), False),
        (SEALED.replace("composefs:", "root:"), False),
        (SEALED.replace("composefs:", ""), False),
        (SEALED.replace(HEX, HEX[1:]), False),
    ],
)
def test_only_a_sealed_root_is_taken_for_one(
    kernel: Kernel, point: str, right: str, is_root: bool
) -> None:
    """Who runs `cfs-setup-root` again is told that all is done: of a root that is verified only."""
    kernel.shows(right)
    digest = Digest(1, bytes.fromhex(HEX))
    assert compose.mounted_at(point) == (digest if is_root else None)


@pytest.fixture
def point(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A directory that something is mounted on."""
    number = os.stat(tmp_path).st_ino
    monkeypatch.setattr(
        mountinfo, "mount_id", lambda fd: 77 if os.fstat(fd).st_ino == number else 1
    )
    kernel.shows(SEALED)
    return str(tmp_path)


def test_a_mount_that_is_gone_is_no_root(kernel: Kernel, point: str) -> None:
    kernel._path.write_bytes(line(76, SEALED))
    assert compose.mounted_at(point) is None


def test_what_others_have_mounted_is_refused(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the directory above is not opened for reading: it may be one that hangs."""
    (tmp_path / "free").mkdir()
    real, flags = posix.open, []

    def opened(path: str, how: int, **more: int) -> int:
        if path == "..":
            flags.append(how)
        return real(path, how, **more)

    monkeypatch.setattr(posix, "open", opened)
    with pytest.raises(Refused, match=f"attach: {point}: something is mounted there already"):
        compose.check_free(point, "nothing")
    assert flags == [os.O_PATH | os.O_CLOEXEC]
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: 77)
    compose.check_free(str(tmp_path / "free"), "nothing")


def test_a_directory_inside_a_root_is_none(kernel: Kernel, tmp_path: Path) -> None:
    kernel.shows(SEALED)
    assert compose.mounted_at(str(tmp_path)) is None


# ---- several trees


def test_trees_are_attached_in_order_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, image: VerifiedImage
) -> None:
    done: list[object] = []

    def attach(tree: int, target: str, _image: VerifiedImage) -> None:
        if target == "/refused":
            raise Refused("attach", target, "x")
        done.append(tree)

    monkeypatch.setattr(compose, "attach", attach)
    monkeypatch.setattr(compose, "detach", lambda *what: done.append(what))
    compose.attach_all([(1, "/a", image), (2, "/b", image)])
    assert done == [1, 2]
    done.clear()
    with pytest.raises(Refused, match="/refused"):
        compose.attach_all([(1, "/a", image), (2, "/b", image), (3, "/refused", image)])
    assert done == [1, 2, (1, "/a"), (2, "/b")]
