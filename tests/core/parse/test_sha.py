# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The hashes of PCR banks, beside libcrypto's."""

import errno
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.core import Core

BANKS = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C, "sha512": 0x0D}  # TPM_ALG_ID


def sha(core: Core, bank: int, data: bytes) -> tuple[int, bytes]:
    out = core.room(64)
    size = core.lib.cfs_sha(bank, core.buffer(data), len(data), out)
    return size, bytes(core.ffi.buffer(out))[: max(size, 0)]


@pytest.mark.parametrize("name", BANKS)
def test_every_length_around_the_ends_of_blocks(core: Core, name: str) -> None:
    """Where the length and its padding go into one block more."""
    for size in range(260):
        data = bytes(number * 7 + size & 0xFF for number in range(size))
        expected = hashlib.new(name, data).digest()
        assert sha(core, BANKS[name], data) == (len(expected), expected)


@given(data=st.binary(max_size=2000), name=st.sampled_from(sorted(BANKS)))
def test_like_libcrypto(core: Core, data: bytes, name: str) -> None:
    expected = hashlib.new(name, data).digest()
    assert sha(core, BANKS[name], data) == (len(expected), expected)


@pytest.mark.parametrize("bank", [0, 3, 5, 0x0A, 0x0E, 0x12, 0x27, 0xFFFF])
def test_an_algorithm_that_is_not_known(core: Core, bank: int) -> None:
    """SM3 and SHA-3 among them."""
    assert sha(core, bank, b"abc")[0] == -errno.EPROTONOSUPPORT
