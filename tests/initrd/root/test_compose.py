# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the kernel says of a mount is read back, each time; the mounts themselves are in tests/vm.

mountinfo and the calls that mount are made up here.
"""

import _cfs
import os
from pathlib import Path

import pytest

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import canary, compose
from pyinit.initrd.root.compose import Root
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import VerifiedImage

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
        patch.setattr(_cfs, "erofs_mount", lambda *_: (8, False))
        patch.setattr(_cfs, "overlay_mount", lambda *_: 9)
        patch.setattr(canary, "check", lambda *_: "usr/canary")

    def shows(self, right: str) -> None:
        self._path.write_bytes(line(76, "tmpfs tmpfs rw") + line(77, right))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    return Kernel(monkeypatch, tmp_path / "mountinfo")


class Stage:
    target = "/sysroot"

    def __init__(self) -> None:
        self.attached: list[int] = []

    def bring_in(self, _layer: int) -> None:
        pass

    def attach(self, root: int) -> None:
        self.attached.append(root)


def composed(image: VerifiedImage) -> Root:
    return compose.compose(Stage(), image, 7, 1)  # type: ignore[arg-type]


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
        (SEALED.replace(HEX, HEX[1:]), False),
    ],
)
def test_only_a_sealed_root_is_taken_for_one(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, right: str, is_root: bool
) -> None:
    """Who runs `cfs-setup-root` again is told that all is done: of a root that is verified only."""
    point = os.stat(tmp_path).st_ino
    monkeypatch.setattr(mountinfo, "mount_id", lambda fd: 77 if os.fstat(fd).st_ino == point else 1)
    kernel.shows(right)
    digest = Digest(1, bytes.fromhex(HEX))
    assert compose.mounted_at(str(tmp_path)) == (digest if is_root else None)


def test_a_directory_inside_a_root_is_none(kernel: Kernel, tmp_path: Path) -> None:
    kernel.shows(SEALED)
    assert compose.mounted_at(str(tmp_path)) is None
