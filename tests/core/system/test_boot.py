# SPDX-License-Identifier: Apache-2.0 OR MIT
"""boot.c: what would be deleted. Nothing is: account.c answers in the kernel's place."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.core import Core

TMPFS = 0x01021994
EXT4 = 0xEF53


@pytest.fixture
def tree(core: Core, tmp_path: Path) -> Iterator[int]:
    """A tree that is told to lie on a tmpfs; `elsewhere` is on another file system."""
    for name in ("init", "usr/bin/program", "elsewhere/kept", "elsewhere/below/kept"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "link").symlink_to("elsewhere")
    core.lib.fault_file_system = TMPFS
    core.lib.account_elsewhere = (tmp_path / "elsewhere").stat().st_ino
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    core.lib.fault_file_system = 0
    core.lib.account_elsewhere = 0


def test_an_initramfs_is_emptied_and_no_other_file_system(core: Core, tree: int) -> None:
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == 0
    assert sorted(said) == [
        "rmdir bin", "rmdir usr", "unlink init", "unlink link", "unlink program",
    ]  # fmt: skip
    assert said.index("unlink program") < said.index("rmdir bin") < said.index("rmdir usr")


def test_a_tree_on_a_disk_is_never_emptied(core: Core, tree: int) -> None:
    core.lib.fault_file_system = EXT4
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == -errno.EPERM
    assert said == []
