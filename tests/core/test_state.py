# SPDX-License-Identifier: Apache-2.0 OR MIT
"""state.c: nothing beside the directory given is reached, by whatever link."""

import errno
import os
from pathlib import Path

import pytest

from .core import Core

FLAGS = os.O_PATH


@pytest.fixture(params=["entry", "parent", "absolute", "up", "dangling", "magic"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = tmp_path / "root"
    (root / "there" / "below").mkdir(parents=True)
    name = str(request.param)
    target = {
        "entry": "there", "parent": "there", "absolute": str(root / "there"), "up": "../root/there",
        "dangling": "none", "magic": "/proc/self/cwd",
    }[name]  # fmt: skip
    (root / "link").symlink_to(target)
    return "link/below" if name == "parent" else "link"


def test_no_link_is_followed(core: Core, tmp_path: Path, link: str) -> None:
    root = os.open(tmp_path / "root", os.O_PATH)
    for flags in (FLAGS, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY):
        assert core.lib.cfs_open_beneath(root, link.encode(), flags) == -errno.ELOOP
    os.close(root)


@pytest.mark.parametrize(
    ("path", "error"),
    [("..", errno.EXDEV), ("/", errno.EXDEV), ("a/../..", errno.EXDEV), ("b", errno.ENOENT)],
)
def test_nothing_outside(core: Core, tmp_path: Path, path: str, error: int) -> None:
    (tmp_path / "a").mkdir()
    root = os.open(tmp_path, os.O_PATH)
    assert core.lib.cfs_open_beneath(root, path.encode(), FLAGS) == -error
    os.close(root)


def test_what_is_there_is_opened(core: Core, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    root = os.open(tmp_path, os.O_PATH)
    fd = core.lib.cfs_open_beneath(root, b"a/b", FLAGS)
    assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / "a" / "b"))
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(root)


def test_only_ext4_and_btrfs_are_grown(core: Core) -> None:
    fd = os.open("/proc", os.O_RDONLY)
    assert core.lib.cfs_filesystem_grow(fd, 1 << 30) == -errno.EOPNOTSUPP
    os.close(fd)
    assert core.lib.cfs_filesystem_grow(-1, 1 << 30) == -errno.EBADF
    assert core.lib.cfs_filesystem_sync(-1) == -errno.EBADF
