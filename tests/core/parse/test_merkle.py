# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fs-verity digest of what the kernel has not sealed, beside the engine's,
which tests/vm compares with the kernel's."""

import _cfshost
import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.core import Core

SHA256, SHA512 = 1, 2
BLOCK = 4096
# Hashes that a block has room for: the ends of levels.
FAN = {SHA256: 128, SHA512: 64}


def digest(core: Core, data: bytes, algorithm: int, size: int | None = None) -> tuple[int, Any]:
    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(_context: object, offset: int, buffer: Any, length: int) -> int:
        assert 0 < length <= len(data) - offset
        core.ffi.buffer(buffer, length)[:] = data[offset : offset + length]
        return 0

    out = core.ffi.new("struct cfs_digest *")
    size = len(data) if size is None else size
    return core.lib.cfs_merkle_digest(read, core.ffi.NULL, size, algorithm, out), out


def check(core: Core, data: bytes, algorithm: int) -> None:
    result, out = digest(core, data, algorithm)
    expected = _cfshost.verity_digest(data, algorithm)
    assert (result, out.algorithm, out.size) == (0, algorithm, len(expected))
    assert bytes(core.ffi.buffer(out.bytes))[: out.size] == expected


@pytest.mark.parametrize("algorithm", FAN)
def test_the_ends_of_blocks_and_levels(core: Core, algorithm: int) -> None:
    fan = FAN[algorithm]
    for blocks in (0, 1, 2, fan - 1, fan, fan + 1, 2 * fan, fan * fan, fan * fan + 1):
        for more in (-1, 0, 1):
            size = blocks * BLOCK + more
            if size >= 0:
                check(core, (b"%08d" % blocks * (size // 8 + 1))[:size], algorithm)


@given(data=st.binary(max_size=3 * BLOCK), algorithm=st.sampled_from(sorted(FAN)))
def test_any_bytes(core: Core, data: bytes, algorithm: int) -> None:
    check(core, data, algorithm)


def test_what_is_refused(core: Core) -> None:
    assert digest(core, b"", 3)[0] == -errno.EPROTONOSUPPORT
    assert digest(core, b"", 0)[0] == -errno.EPROTONOSUPPORT
    assert digest(core, b"", SHA256, 1 << 40)[0] == -errno.EFBIG
    assert digest(core, b"", SHA256, (1 << 64) - 1)[0] == -errno.EFBIG


def test_a_read_that_fails(core: Core) -> None:
    """At once, and in the midst."""
    left = [0]

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(_context: object, _offset: int, buffer: Any, length: int) -> int:
        left[0] -= 1
        core.ffi.memmove(buffer, bytes(length), length)
        return -errno.EIO if left[0] < 0 else 0

    out = core.ffi.new("struct cfs_digest *")
    for good in range(3):
        left[0] = good
        assert (
            core.lib.cfs_merkle_digest(read, core.ffi.NULL, 100 * BLOCK, SHA256, out) == -errno.EIO
        )
