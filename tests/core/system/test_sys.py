# SPDX-License-Identifier: Apache-2.0 OR MIT
"""sys.c and its like: no descriptor of the core is left to a program that is executed."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.core import Core


@pytest.fixture(scope="module")
def lib(core: Core) -> Any:
    core.ffi.cdef(
        "int sys_openat(int, const char *, int); int sys_dup(int); int sys_pipe(int *);"
        "int sys_openat2(int, const char *, uint64_t, uint64_t);"
        "int sys_pread_exact(int, void *, size_t, uint64_t);"
        "int sys_read(int, void *, size_t); int sys_fstatfs(int, void *);"
        "int sys_wait(int, int *); int sys_write_exact(int, const void *, size_t);"
        "int sys_fdopendir(int, void **);"
    )
    return core.lib


def is_closed_on_exec(fd: int) -> bool:
    assert fd >= 3
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
    finally:
        os.close(fd)


def test_no_descriptor_outlives_an_execution(core: Core, lib: Any) -> None:
    assert is_closed_on_exec(lib.sys_openat(-100, b"/", os.O_PATH))
    assert is_closed_on_exec(lib.sys_openat2(-100, b"/", os.O_PATH, 0))
    assert is_closed_on_exec(lib.sys_dup(0))
    pair = core.ffi.new("int[2]")
    assert lib.sys_pipe(pair) == 0
    assert all([is_closed_on_exec(pair[0]), is_closed_on_exec(pair[1])])


def test_a_read_that_no_file_can_have(core: Core, lib: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    room = core.room(4)
    most = (1 << 63) - 1
    assert lib.sys_pread_exact(fd, room, 3, 0) == 0
    assert lib.sys_pread_exact(fd, room, 4, 0) == -errno.ENODATA
    assert lib.sys_pread_exact(fd, room, 1, most + 1) == -errno.EOVERFLOW
    assert lib.sys_pread_exact(fd, room, 2, most - 1) == -errno.EOVERFLOW
    assert lib.sys_pread_exact(-1, room, 1, 0) == -errno.EBADF
    os.close(fd)


class Calls:
    """Those that are repeated: each with the function of the C library that it calls."""

    def __init__(self, core: Core, lib: Any, directory: Path) -> None:
        self._core, self._lib = core, lib
        (directory / "file").write_bytes(b"abc")
        self._file = str(directory / "file").encode()

    def openat(self) -> int:
        return self._closed(self._lib.sys_openat(-100, b"/", os.O_PATH))

    def syscall(self) -> int:
        return self._closed(self._lib.sys_openat2(-100, b"/", os.O_PATH, 0))

    def fstatfs(self) -> int:
        return self._with_file(lambda fd: self._lib.sys_fstatfs(fd, self._core.room(256)))

    def read(self) -> int:
        result = self._with_file(lambda fd: self._lib.sys_read(fd, self._core.room(2), 2))
        return 0 if result == 2 else result

    def pread(self) -> int:
        return self._with_file(lambda fd: self._lib.sys_pread_exact(fd, self._core.room(2), 2, 1))

    def write(self) -> int:
        reader, writer = os.pipe()
        result: int = self._lib.sys_write_exact(writer, b"abc", 3)
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert pipe.read() == (b"abc" if result == 0 else b"")
        return result

    def waitpid(self) -> int:
        child = os.fork()
        if child == 0:
            os._exit(7)
        status = self._core.ffi.new("int *")
        result: int = self._lib.sys_wait(child, status)
        if result < 0:
            os.waitpid(child, 0)
            return result
        assert os.waitstatus_to_exitcode(status[0]) == 7
        return result - child

    def _with_file(self, use: Callable[[int], int]) -> int:
        fd = os.open(self._file, os.O_RDONLY)
        try:
            return use(fd)
        finally:
            os.close(fd)

    @staticmethod
    def _closed(fd: int) -> int:
        if fd >= 0:
            os.close(fd)
        return min(fd, 0)


@pytest.mark.parametrize(
    "name", ["openat", "syscall", "fstatfs", "read", "pread", "write", "waitpid"]
)
def test_a_signal_is_no_end_and_an_error_is(
    core: Core, lib: Any, tmp_path: Path, name: str
) -> None:
    call = getattr(Calls(core, lib, tmp_path), name)
    with core.failing(name, errno.EINTR, 2):
        assert call() == 0
    with core.failing(name, errno.EDOM):
        assert call() == -errno.EDOM


def test_a_walk_that_races_without_end_is_given_up(core: Core, lib: Any, tmp_path: Path) -> None:
    call = Calls(core, lib, tmp_path).syscall
    with core.failing("syscall", errno.EAGAIN, 16):
        assert call() == 0
    with core.failing("syscall", errno.EAGAIN, 17):
        assert call() == -errno.EAGAIN


def test_what_is_no_directory(core: Core, lib: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    name = str(tmp_path / "file").encode()
    assert lib.sys_openat(-100, name, os.O_DIRECTORY) == -errno.ENOTDIR
    assert lib.sys_openat2(-100, name, os.O_DIRECTORY, 0) == -errno.ENOTDIR
    assert lib.sys_fdopendir(-1, core.ffi.new("void **")) == -errno.EBADF
