# SPDX-License-Identifier: Apache-2.0 OR MIT
"""sys.c and its like: no descriptor of the core is left to a program that is executed."""

import errno
import fcntl
import os
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
