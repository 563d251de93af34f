# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.core import Core

SHA256, SHA512 = 1, 2
HEX = "0123456789abcdef"
VALUES = st.one_of(
    st.tuples(st.just(SHA256), st.binary(min_size=32, max_size=32)),
    st.tuples(st.just(SHA512), st.binary(min_size=64, max_size=64)),
)
PREFIXES = {
    SHA256: ("", "sha256:", "fsverity-sha256-12:"),
    SHA512: ("", "sha512:", "fsverity-sha512-12:"),
}


@given(value=VALUES, form=st.integers(0, 2))
def test_round_trip(core: Core, value: tuple[int, bytes], form: int) -> None:
    algorithm, raw = value
    result, digest = core.digest_parse((PREFIXES[algorithm][form] + raw.hex()).encode())
    assert result == 0
    assert (digest.algorithm, digest.size) == (algorithm, len(raw))
    assert bytes(core.ffi.buffer(digest.bytes))[: len(raw)] == raw
    assert core.digest_format(digest) == (0, raw.hex())


@given(value=VALUES, form=st.integers(0, 2), at=st.integers(0), byte=st.integers(0, 255))
def test_one_changed_character(
    core: Core, value: tuple[int, bytes], form: int, at: int, byte: int
) -> None:
    """It is refused, or it is another digest; never the same one."""
    algorithm, raw = value
    text = bytearray((PREFIXES[algorithm][form] + raw.hex()).encode())
    _, original = core.digest_parse(bytes(text))
    at %= len(text)
    if text[at] == byte:
        byte ^= 1
    text[at] = byte
    result, changed = core.digest_parse(bytes(text))
    if result == 0:
        assert chr(byte) in HEX
        assert not core.lib.cfs_digest_equal(original, changed)
    else:
        assert result in {-errno.EILSEQ, -errno.EPROTONOSUPPORT, -errno.EMSGSIZE}


@given(text=st.binary(max_size=200))
def test_any_bytes(core: Core, text: bytes) -> None:
    """What is accepted is one of the written forms of its value, and nothing else."""
    result, digest = core.digest_parse(text)
    if result == 0:
        _, digits = core.digest_format(digest)
        assert text.decode() in {p + digits for p in PREFIXES[digest.algorithm]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", errno.ENODATA),
        (b"sha256:", errno.EMSGSIZE),
        (b"sha384:" + b"0" * 96, errno.EPROTONOSUPPORT),
        (b"sha256" + b"0" * 64, errno.EMSGSIZE),
        (b"SHA256:" + b"0" * 64, errno.EPROTONOSUPPORT),
        (b"sha256::" + b"0" * 64, errno.EMSGSIZE),
        (b":" + b"0" * 64, errno.EPROTONOSUPPORT),
        (b"fsverity-sha256-16:" + b"0" * 64, errno.EPROTONOSUPPORT),
        (b"sha256:" + b"0" * 128, errno.EMSGSIZE),
        (b"sha512:" + b"0" * 64, errno.EMSGSIZE),
        (b"0" * 63, errno.EMSGSIZE),
        (b"0" * 65, errno.EMSGSIZE),
        (b"0" * 127, errno.EMSGSIZE),
        (b"0" * 129, errno.EMSGSIZE),
        (b"0" * 64 + b"\n", errno.EMSGSIZE),
        (b"A" * 64, errno.EILSEQ),
        (b"0" * 63 + b"g", errno.EILSEQ),
        (b"0" * 63 + b"\0", errno.EILSEQ),
        (b" " + b"0" * 63, errno.EILSEQ),
        (b"../" + b"0" * 61, errno.EILSEQ),
        (b"0" * 63 + b"/", errno.EILSEQ),
        (b"\xff" * 64, errno.EILSEQ),
        (b"0x" + b"0" * 62, errno.EILSEQ),
    ],
)
def test_refused(core: Core, text: bytes, expected: int) -> None:
    result, digest = core.digest_parse(text)
    assert result == -expected
    assert (digest.algorithm, digest.size) == (0, 0)


@pytest.mark.parametrize("at", [0, 1])
def test_each_byte_as_a_digit(core: Core, at: int) -> None:
    """Not those between the digits and the letters, or after them, that arithmetic lets through."""
    for byte in range(256):
        text = b"0" * 62 + bytes([byte, 48] if at == 0 else [48, byte])
        accepted = core.digest_parse(text)[0] == 0
        assert accepted == (chr(byte) in HEX), byte


def test_a_digest_that_is_cut_is_equal_to_none(core: Core) -> None:
    whole, cut = core.digest(SHA256, bytes(32)), core.digest(SHA256, bytes(16))
    assert not core.lib.cfs_digest_equal(whole, cut)
    assert not core.lib.cfs_digest_equal(cut, whole)


def test_equal_is_algorithm_and_bytes(core: Core) -> None:
    value = bytes(range(32))
    one = core.digest(SHA256, value)
    assert core.lib.cfs_digest_equal(one, core.digest(SHA256, value))
    for other in (
        core.digest(SHA512, value + bytes(32)),
        core.digest(SHA512, value),
        core.digest(SHA256, value[:-1] + b"\xff"),
        core.digest(SHA256, b"\xff" + value[1:]),
        core.digest(SHA256, value[:-1]),
    ):
        assert not core.lib.cfs_digest_equal(one, other)
        assert not core.lib.cfs_digest_equal(other, one)


@pytest.mark.parametrize(
    ("algorithm", "size"), [(0, 0), (1, 0), (2, 0), (1, 64), (2, 32), (3, 48), (1, 65535), (9, 32)]
)
def test_no_digest(core: Core, algorithm: int, size: int) -> None:
    """Not formatted, and not even equal to itself: empty never means "do not check"."""
    digest = core.digest(algorithm, b"", size)
    assert not core.lib.cfs_digest_equal(digest, digest)
    assert core.digest_format(digest) == (-errno.EINVAL, "")
