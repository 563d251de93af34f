# SPDX-License-Identifier: Apache-2.0 OR MIT
"""memory.c: a copy of a file that nobody can change."""

import errno
import fcntl
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.core import Core

_EXEC = 0x20  # F_SEAL_EXEC
_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE of <linux/fcntl.h>
MEMFD_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture
def copy(core: Core, tmp_path: Path) -> Callable[[], int]:
    """Of a file with 100,000 bytes, from its start."""
    (tmp_path / "image").write_bytes(b"image data" * 10000)

    def make() -> int:
        fd = os.open(tmp_path / "image", os.O_RDONLY)
        try:
            result: int = core.lib.cfs_memory_copy(fd)
        finally:
            os.close(fd)
        return result

    return make


def test_it_has_the_same_bytes_and_is_sealed(copy: Callable[[], int]) -> None:
    fd = copy()
    assert os.pread(fd, 200000, 0) == b"image data" * 10000
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & MEMFD_SEALS == MEMFD_SEALS
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    for change in (
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.ftruncate(fd, 1),
        lambda: os.ftruncate(fd, 1 << 20),
        lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _FUTURE_WRITE),
    ):
        with pytest.raises(PermissionError):
            change()
    # Another description of it, as a process finds it below /proc.
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.write(other, b"x")
    os.close(other)
    os.close(fd)


def test_an_older_kernel_knows_no_seal_against_execution(
    core: Core, copy: Callable[[], int]
) -> None:
    with core.failing("memfd_create", errno.EINVAL):
        fd = copy()
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & MEMFD_SEALS == MEMFD_SEALS
    os.close(fd)


@pytest.mark.parametrize(
    ("call", "error", "times"),
    [
        ("memfd_create", errno.EINVAL, 2),
        ("memfd_create", errno.ENOSYS, 1),
        ("sendfile", errno.ENOSPC, 1),
        ("fcntl", errno.EPERM, 1),
    ],
)
def test_no_copy_is_better_than_one_that_can_be_changed(
    core: Core, copy: Callable[[], int], call: str, error: int, times: int
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with core.failing(call, error, times):
        assert copy() == -error
    assert set(os.listdir("/proc/self/fd")) == before


def test_nobody_can_run_it(copy: Callable[[], int]) -> None:
    fd = copy()
    can = tuple(map(int, platform.release().split("-")[0].split(".")[:2])) >= (6, 3)
    assert bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _EXEC) == can
    os.close(fd)


def test_it_is_copied_in_parts(core: Core, copy: Callable[[], int]) -> None:
    core.lib.fault_read_most = 30000
    try:
        fd = copy()
    finally:
        core.lib.fault_read_most = 0
    assert os.pread(fd, 200000, 0) == b"image data" * 10000
    os.close(fd)


def test_a_signal_ends_no_copy(core: Core, copy: Callable[[], int]) -> None:
    with core.failing("sendfile", errno.EINTR, 3):
        fd = copy()
    assert os.fstat(fd).st_size == 100000
    os.close(fd)
