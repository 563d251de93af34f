# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The hashes of PCR banks, beside libcrypto's."""

import errno
import hashlib
import platform
from pathlib import Path

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


@given(
    parts=st.lists(st.binary(max_size=200) | st.binary(min_size=256, max_size=900), max_size=6),
    name=st.sampled_from(sorted(BANKS)),
)
def test_in_parts(core: Core, parts: list[bytes], name: str) -> None:
    """Small ones are hashed by plain C. With the first of 256 bytes the processor takes SHA-256
    over, where it has that."""
    state, out = core.ffi.new("struct cfs_sha *"), core.room(64)
    assert core.lib.cfs_sha_begin(state, BANKS[name]) == hashlib.new(name).digest_size
    for part in parts:
        core.lib.cfs_sha_add(state, core.buffer(part), len(part))
    size = core.lib.cfs_sha_end(state, out)
    assert bytes(core.ffi.buffer(out))[:size] == hashlib.new(name, b"".join(parts)).digest()


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("size", [255, 256])
def test_who_hashes(core: Core, name: str, size: int) -> None:
    """The processor SHA-256 alone, if it can, and from 256 bytes on."""
    can = platform.machine() == "x86_64" and "sha_ni" in Path("/proc/cpuinfo").read_text().split()
    state, data = core.ffi.new("struct cfs_sha *"), bytes(size)
    core.lib.cfs_sha_begin(state, BANKS[name])
    before = state.algorithm
    core.lib.cfs_sha_add(state, core.buffer(data), size)
    assert state.asked == (name == "sha256" and size == 256 and platform.machine() == "x86_64")
    assert (state.algorithm != before) == (state.asked and can)


def test_of_many_blocks_by_the_processor_and_without(core: Core) -> None:
    data = hashlib.sha512(b"seed").digest() * 4096
    expected = hashlib.sha256(data).digest()
    for step in (len(data), 4096, 255, 64):
        state, out = core.ffi.new("struct cfs_sha *"), core.room(64)
        core.lib.cfs_sha_begin(state, BANKS["sha256"])
        for at in range(0, len(data), step):
            part = data[at : at + step]
            core.lib.cfs_sha_add(state, core.buffer(part), len(part))
        core.lib.cfs_sha_end(state, out)
        assert bytes(core.ffi.buffer(out))[:32] == expected


@pytest.mark.parametrize("bank", [0, 3, 5, 0x0A, 0x0E, 0x12, 0x27, 0xFFFF])
def test_an_algorithm_that_is_not_known(core: Core, bank: int) -> None:
    """SM3 and SHA-3 among them."""
    assert sha(core, bank, b"abc")[0] == -errno.EPROTONOSUPPORT
