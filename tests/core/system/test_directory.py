# SPDX-License-Identifier: Apache-2.0 OR MIT
"""directory.c: directories and regular files, however many there are, and nothing else."""

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.core import Core

MAX = 32768  # CFS_NAMES_MAX
FEW = 8  # CFS_FEW
NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def portions(core: Core, fd: int) -> list[list[bytes]]:
    """What each call gives: kind and name."""
    block, length = core.room(MAX), core.ffi.new("size_t *")
    room = core.ffi.cast("char *", block)
    found = []
    while (result := core.lib.cfs_directory_names(fd, room, MAX, length)) > 0:
        assert result == 1
        names = bytes(core.ffi.buffer(room, length[0])).split(b"\0")
        assert names.pop() == b""
        found.append(names)
    assert result == 0, os.strerror(-result)
    assert length[0] == 0
    return found


def listed(core: Core, path: Path) -> list[bytes]:
    with opened(path) as fd:
        return sorted(name for names in portions(core, fd) for name in names)


@settings(max_examples=30)
@given(directories=st.sets(NAMES, max_size=6), files=st.sets(NAMES, max_size=6))
def test_all_names(core: Core, directories: set[bytes], files: set[bytes]) -> None:
    files -= directories
    with tempfile.TemporaryDirectory() as path:
        for name in directories:
            os.mkdir(os.path.join(path.encode(), name))
        for name in files:
            os.close(os.open(os.path.join(path.encode(), name), os.O_CREAT | os.O_WRONLY, 0o600))
        wanted = [b"d" + name for name in directories] + [b"f" + name for name in files]
        assert listed(core, Path(path)) == sorted(wanted)


@pytest.mark.parametrize("no_types", [0, 1])
def test_other_kinds_are_left_out(core: Core, tmp_path: Path, no_types: int) -> None:
    """Where the file system gives no types too. A link counts as itself."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "...").touch()
    (tmp_path / "to-a-directory").symlink_to("directory")
    (tmp_path / "to-a-file").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    core.lib.fault_no_types = no_types
    try:
        assert listed(core, tmp_path) == [b"ddirectory", b"f...", b"f.hidden", b"ffile"]
    finally:
        core.lib.fault_no_types = 0


def test_types_beside_the_names_are_enough(core: Core, tmp_path: Path) -> None:
    """An image may have thousands of entries: none is looked at."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with core.failing("fstatat", errno.ESTALE):
        assert listed(core, tmp_path) == [b"ddirectory", b"ffile"]


def test_more_names_than_one_call_gives(core: Core, tmp_path: Path) -> None:
    wanted = [f"f{number:03}{'x' * 200}".encode() for number in range(1000)]
    for name in wanted:
        (tmp_path / name[1:].decode()).touch()
    with opened(tmp_path) as fd:
        found = portions(core, fd)
    assert len(found) > 3
    assert sorted(name for names in found for name in names) == wanted


def test_a_portion_of_nothing_is_not_the_end(core: Core, tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:03}{'x' * 200}").symlink_to("nowhere")
    with opened(tmp_path) as fd:
        found = portions(core, fd)
    assert len(found) > 3
    assert not any(found)


def first(core: Core, fd: int) -> tuple[list[bytes], bool, list[bytes], bool]:
    directories, files = core.ffi.new("struct cfs_names *"), core.ffi.new("struct cfs_names *")
    assert core.lib.cfs_directory_first(fd, directories, files) == 0
    kinds = [
        [core.ffi.string(kind.name[at]) for at in range(kind.count)]
        for kind in (directories, files)
    ]
    return kinds[0], directories.more, kinds[1], files.more


@settings(max_examples=30)
@given(directories=st.sets(NAMES, max_size=24), files=st.sets(NAMES, max_size=24))
def test_the_first_names(core: Core, directories: set[bytes], files: set[bytes]) -> None:
    """By their bytes, in whatever order the file system has them."""
    files -= directories
    with tempfile.TemporaryDirectory() as path:
        for name in directories:
            os.mkdir(os.path.join(path.encode(), name))
        for name in files:
            os.close(os.open(os.path.join(path.encode(), name), os.O_CREAT | os.O_WRONLY, 0o600))
        with opened(Path(path)) as fd:
            found = first(core, fd)
    assert found == (
        sorted(directories)[:FEW], len(directories) > FEW, sorted(files)[:FEW], len(files) > FEW
    )  # fmt: skip


def test_the_first_names_of_many(core: Core, tmp_path: Path) -> None:
    """Of more than one portion."""
    for number in range(1000):
        (tmp_path / f"{number:03}{'x' * 200}").touch()
    with opened(tmp_path) as fd:
        directories, more_directories, files, more_files = first(core, fd)
    assert (directories, more_directories, more_files) == ([], False, True)
    assert files == [f"{number:03}{'x' * 200}".encode() for number in range(FEW)]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_sorted_names_are_read_as_far_as_they_are_wanted(core: Core, kind: str) -> None:
    """As EROFS has them. tmpfs lists by age: the oldest first in some kernels, the youngest in
    others. No file is to be missed because there are many directories before it."""
    unread = []
    for step in (1, -1):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
            for number in range(1000)[::step]:
                name = Path(path, f"{number:03}")
                name.touch() if kind == "file" else name.mkdir()
            with opened(Path(path)) as fd:
                directories, _, files, more_files = first(core, fd)
                unread.append(sum(map(len, portions(core, fd))))
            wanted = [f"{number:03}".encode() for number in range(FEW)]
            found, other = (files, directories) if kind == "file" else (directories, files)
            assert (found, other, more_files) == (wanted, [], kind == "file")
    assert min(unread) == 0
    assert (max(unread) > 900) is (kind == "file")


def test_the_first_of_what_cannot_be_listed(core: Core, tmp_path: Path) -> None:
    names = core.ffi.new("struct cfs_names[2]")
    assert core.lib.cfs_directory_first(-1, names, names + 1) == -errno.EBADF
    with opened(tmp_path) as fd, core.failing("getdents64", errno.EIO):
        assert core.lib.cfs_directory_first(fd, names, names + 1) == -errno.EIO


def test_what_cannot_be_listed(core: Core, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    block, length = core.room(MAX), core.ffi.new("size_t *")
    room = core.ffi.cast("char *", block)
    call = core.lib.cfs_directory_names
    assert call(-1, room, MAX, length) == -errno.EBADF
    with opened(tmp_path) as fd:
        with core.failing("getdents64", errno.EIO):
            assert call(fd, room, MAX, length) == -errno.EIO
        core.lib.fault_no_types = 1
        try:
            with core.failing("fstatat", errno.ESTALE):
                assert call(fd, room, MAX, length) == -errno.ESTALE
        finally:
            core.lib.fault_no_types = 0
