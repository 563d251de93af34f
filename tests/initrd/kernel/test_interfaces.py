# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What PID 1 mounts, with which attributes, and what it leaves alone."""

import _cfs
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.kernel import interfaces, mounting
from pyinit.initrd.kernel.interfaces import make_directory, mount_all
from pyinit.initrd.report.errors import CfsError, Refused

SECURE = mounting.NOSUID | mounting.NODEV
WANTED = [
    ("/proc", "proc", [("source", "proc")], SECURE | mounting.NOEXEC),
    ("/sys", "sysfs", [("source", "sysfs")], SECURE | mounting.NOEXEC),
    # It has the devices.
    ("/dev", "devtmpfs", [("source", "devtmpfs"), ("mode", "0755")], mounting.NOSUID),
    # systemd executes generators from /run.
    ("/run", "tmpfs", [("source", "tmpfs"), ("mode", "0755")], SECURE),
]


class Kernel:
    """Knows what is a mount point, and what was mounted."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.there: set[str] = set()
        self.mounted: list[tuple[object, ...]] = []
        self.error = 0
        # _cfs and posix are everybody's: the module gets its own
        patch.setattr(interfaces, "make_directory", lambda _: None)
        patch.setattr(interfaces, "posix", SimpleNamespace(stat=self._stat))
        patch.setattr(
            interfaces, "_cfs", SimpleNamespace(fs_mount=self._mount, mount_attach=self._attach)
        )
        patch.setattr(mounting, "open_directory", lambda path: path)

    def _stat(self, path: str) -> SimpleNamespace:
        return SimpleNamespace(st_dev=2 if path in self.there else 1)

    def _mount(self, *what: object) -> tuple[object, ...]:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return what

    def _attach(self, mount: tuple[object, ...], where: str) -> None:
        self.mounted.append((where, *mount))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_the_attributes(kernel: Kernel) -> None:
    mount_all()
    assert kernel.mounted == WANTED
    assert interfaces.PLACES == ("/proc", "/sys", "/dev", "/run")


def test_a_place_that_is_mounted_is_left_alone(kernel: Kernel) -> None:
    kernel.there = {"/dev", "/sys"}
    mount_all()
    assert [where for where, *_ in kernel.mounted] == ["/proc", "/run"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.ENODEV, r"refused: state: /proc: kernel \S+ has no proc: .*ENODEV.*"),
        (errno.EINVAL, r"refused: state: /proc: Invalid argument \(EINVAL\)"),
        (errno.ENOMEM, r"error: state: /proc: .*ENOMEM.*"),
    ],
)
def test_a_mount_that_fails_names_its_place(kernel: Kernel, error: int, said: str) -> None:
    kernel.error = error
    with pytest.raises(CfsError, match=said):
        mount_all()


def test_a_directory_is_made_where_it_is_missing(tmp_path: Path) -> None:
    place = tmp_path / "new"
    for _ in range(2):
        make_directory(str(place))
        assert place.is_dir()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    place = tmp_path / "missing" / "new"
    with pytest.raises(Refused, match=rf"switch-root: {place}: .*ENOENT.*expected a directory"):
        make_directory(str(place))


def test_the_kernel_is_asked_by_the_extension() -> None:
    assert callable(_cfs.fs_mount)
    assert callable(_cfs.mount_attach)
