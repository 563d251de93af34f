# SPDX-License-Identifier: Apache-2.0 OR MIT
"""verity.c against answers of the kernel, made by fault.c; the true ones come in tests/vm."""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.core.core import Core

# <linux/fsverity.h>
FS_IOC_ENABLE_VERITY = 0x40806685
FS_IOC_MEASURE_VERITY = 0xC0046686
SHA256, SHA512 = 1, 2
# <linux/magic.h>
EXT4, BTRFS, F2FS = 0xEF53, 0x9123683E, 0xF2F52010
FUSE, TMPFS, OVERLAY = 0x65735546, 0x01021994, 0x794C7630


@contextmanager
def kernel(
    core: Core, answer: Callable[[int, int, Any], int], file_system: int = EXT4
) -> Iterator[None]:
    """`answer(fd, request, argument)` in place of ioctl(2)."""
    callback = core.ffi.callback("int(int, unsigned long, void *)", answer)
    core.lib.fault_sys_ioctl = callback
    core.lib.fault_file_system = file_system
    try:
        yield
    finally:
        core.lib.fault_file_system = 0
        core.lib.fault_sys_ioctl = core.ffi.NULL


def measure(
    core: Core,
    algorithm: int,
    size: int,
    value: bytes,
    result: int = 0,
    file_system: int = EXT4,
) -> Any:
    def answer(fd: int, request: int, argument: Any) -> int:
        assert (fd, request) == (7, FS_IOC_MEASURE_VERITY)
        assert struct.unpack("<HH", core.ffi.buffer(argument, 4)[:])[1] == 64
        core.ffi.buffer(argument, 4 + 64)[: 4 + len(value)] = (
            struct.pack("<HH", algorithm, size) + value
        )
        return result

    found = core.ffi.new("struct cfs_digest *")
    with kernel(core, answer, file_system):
        return core.lib.cfs_verity_measure(7, found), found


@pytest.mark.parametrize("file_system", [EXT4, BTRFS, F2FS])
def test_the_kernel_measures_on_its_own_file_systems(core: Core, file_system: int) -> None:
    assert measure(core, SHA256, 32, bytes(32), file_system=file_system)[0] == 0


@pytest.mark.parametrize("file_system", [FUSE, TMPFS, OVERLAY, 1])
def test_a_server_that_answers_for_the_kernel_is_not_believed(core: Core, file_system: int) -> None:
    result, found = measure(core, SHA256, 32, bytes(32), file_system=file_system)
    assert (result, found.size) == (-errno.EOPNOTSUPP, 0)


def test_a_file_system_that_cannot_be_asked_what_it_is(core: Core) -> None:
    assert measure(core, SHA256, 32, bytes(32), file_system=(1 << 64) - 1)[0] == -errno.EDOM


@pytest.mark.parametrize(("algorithm", "size"), [(SHA256, 32), (SHA512, 64)])
def test_measured(core: Core, algorithm: int, size: int) -> None:
    value = bytes(range(size))
    result, found = measure(core, algorithm, size, value)
    assert result == 0
    assert (found.algorithm, found.size) == (algorithm, size)
    assert bytes(core.ffi.buffer(found.bytes)) == value.ljust(64, b"\0")


@pytest.mark.parametrize(
    ("algorithm", "size"),
    [(0, 0), (9, 0), (0, 32), (3, 32), (SHA256, 64), (SHA512, 32), (SHA256, 0), (SHA256, 31)],
)
def test_unknown_algorithm_or_size(core: Core, algorithm: int, size: int) -> None:
    result, found = measure(core, algorithm, size, b"\xff" * size)
    assert result == -errno.EPROTONOSUPPORT
    assert (found.algorithm, found.size) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (errno.ENODATA, errno.ENODATA),
        (errno.ENOTTY, errno.ENOTTY),
        (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
        (errno.EIO, errno.EIO),
        (errno.EOVERFLOW, errno.EPROTONOSUPPORT),
    ],
)
def test_not_measured(core: Core, answer: int, expected: int) -> None:
    result, found = measure(core, SHA256, 32, bytes(32), -answer)
    assert result == -expected
    assert found.size == 0


def test_the_kernel_itself(core: Core, tmp_path: Path) -> None:
    """A file without fs-verity, on whatever the tests run."""
    (tmp_path / "file").write_bytes(b"content")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    found = core.ffi.new("struct cfs_digest *")
    try:
        result = core.lib.cfs_verity_measure(fd, found)
    finally:
        os.close(fd)
    assert -result in {errno.ENODATA, errno.ENOTTY, errno.EOPNOTSUPP}
    assert core.lib.cfs_verity_measure(-1, found) == -errno.EBADF
    assert core.lib.cfs_verity_enable(-1, SHA256, 4096) == -errno.EBADF


def test_enable(core: Core) -> None:
    seen = []

    def answer(fd: int, request: int, argument: Any) -> int:
        seen.append((fd, request, core.ffi.buffer(argument, 128)[:]))
        return -errno.EINTR if len(seen) < 3 else 0

    with kernel(core, answer):
        assert core.lib.cfs_verity_enable(7, SHA512, 1024) == 0
    # version, algorithm, block size; no salt, no signature
    expected = struct.pack("<III", 1, SHA512, 1024).ljust(128, b"\0")
    assert seen == [(7, FS_IOC_ENABLE_VERITY, expected)] * 3


@pytest.mark.parametrize("error", [errno.EEXIST, errno.ETXTBSY, errno.ENOSPC, errno.EINVAL])
def test_enable_fails(core: Core, error: int) -> None:
    with kernel(core, lambda fd, request, argument: -error):
        assert core.lib.cfs_verity_enable(7, SHA256, 4096) == -error
