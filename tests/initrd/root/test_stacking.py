# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How it is tried whether one more overlay could be mounted; kernels do it in tests/vm/state."""

import _cfs
import errno
import os
import posix
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.root import stacking

RDONLY = 1


class Kernel:
    """Refuses overlays above the named directories."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        self.full: list[str] = []
        self.error = errno.EINVAL
        self.made: list[int] = []
        patch.setattr(_cfs, "overlay_mount", self._overlay)

    def _overlay(self, source: str, directory: int, *rest: object) -> int:
        assert (source, rest) == ("cfs-try", (7, -1, -1, False, RDONLY))
        status = os.fstat(directory)
        if any(os.path.samestat(status, (self.root / name).stat()) for name in self.full):
            raise OSError(self.error, os.strerror(self.error))
        self.made.append(os.open("/dev/null", os.O_RDONLY))
        return self.made[-1]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    for name in ("usr", "etc", "var"):
        (tmp_path / name).mkdir()
    return Kernel(monkeypatch, tmp_path)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_each_place_is_tried_and_nothing_stays(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def different(fd: int) -> SimpleNamespace:
        return SimpleNamespace(st_dev=os.stat(fd).st_ino)

    monkeypatch.setattr(posix, "fstat", different)
    monkeypatch.setattr(os, "fstat", os.stat)
    root = os.open(kernel.root, os.O_RDONLY)
    before = descriptors()
    assert stacking.places(root, 7, False) == ["/", "/usr", "/etc", "/var"]
    assert len(kernel.made) == 4
    kernel.full = ["etc"]
    assert stacking.places(root, 7, False) == ["/", "/usr", "/var"]
    kernel.full, kernel.error = ["", "var"], errno.ENOMEM
    assert stacking.places(root, 7, False) == ["/usr", "/etc"]
    assert descriptors() == before


def test_a_file_system_is_tried_once(kernel: Kernel) -> None:
    root = os.open(kernel.root, os.O_RDONLY)
    assert stacking.places(root, 7, False) == ["/", "/usr", "/etc", "/var"]
    assert len(kernel.made) == 1
    kernel.full = [""]
    assert stacking.places(root, 7, False) == []


def test_a_root_that_was_tried_is_not_tried_again(kernel: Kernel) -> None:
    root = os.open(kernel.root, os.O_RDONLY)
    assert stacking.places(root, 7, True) == ["/", "/usr", "/etc", "/var"]
    assert kernel.made == []


def test_what_close_says_is_no_matter(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback would end the boot."""
    real = posix.close

    def close(fd: int) -> None:
        real(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    root = os.open(kernel.root, os.O_RDONLY)
    monkeypatch.setattr(posix, "close", close)
    assert stacking.places(root, 7, False) == ["/", "/usr", "/etc", "/var"]


def test_what_is_no_directory_of_the_image_is_left_out(kernel: Kernel) -> None:
    (kernel.root / "var").rmdir()
    (kernel.root / "usr").rmdir()
    (kernel.root / "usr").symlink_to("etc")
    root = os.open(kernel.root, os.O_RDONLY)
    assert stacking.places(root, 7, False) == ["/", "/etc"]
