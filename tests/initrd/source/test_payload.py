# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

A = "a1" * 32
B = "b2" * 64
LINE_A = f"rootfs=fsverity-sha256-12:{A}\n".encode()
LINE_B = f"rootfs=fsverity-sha512-12:{B}\n".encode()
ONE = b"cfsdig1\n" + LINE_A

digests = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda value: Digest(1, value)),
    st.binary(min_size=64, max_size=64).map(lambda value: Digest(2, value)),
)


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        payload.parse(data, "the place")
    assert (caught.value.step, caught.value.path) == ("source", "the place")
    return str(caught.value)


def test_the_documented_bytes() -> None:
    assert payload.parse(ONE, "x") == [Digest(1, bytes.fromhex(A))]
    assert payload.format([Digest(1, bytes.fromhex(A))]) == ONE


def test_order_is_kept() -> None:
    found = payload.parse(b"cfsdig1\n" + LINE_B + LINE_A, "x")
    assert [digest.algorithm for digest in found] == [2, 1]


def test_padding_is_allowed_at_the_end_only() -> None:
    assert payload.parse(ONE.ljust(payload.MAX, b"\0"), "x") == payload.parse(ONE, "x")
    assert "at most 4096" in refusal(ONE.ljust(payload.MAX + 1, b"\0"))
    assert "byte 0x00 at offset" in refusal(ONE + b"\0" + LINE_B)
    assert "byte 0x00 at offset 7" in refusal(b"cfsdig1\0\n" + LINE_A)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\0" * 16, "16 NUL bytes and nothing else"),
        (b"cfsdig1\n", "0 digests, expected 1 to 32"),
        (b"cfsdig1", "no LF"),
        (ONE[:-1], "no LF"),
        (ONE[:-2] + b"\n", "wrong length"),
        (b"cfsdig2\n" + LINE_A, "first line is 'cfsdig2'"),
        (LINE_A, "first line is 'rootfs="),
        (b"\n" + ONE, "first line is ''"),
        (b" cfsdig1\n" + LINE_A, "first line"),
        (ONE + b"\n", "line 3 is ''"),
        (b"cfsdig1\n\n" + LINE_A, "line 2 is ''"),
        (ONE.replace(b"\n", b"\r\n"), "byte 0x0d"),
        (ONE + b"insecure=1\n", "unknown key 'insecure'"),
        (ONE + b"Rootfs=x\n", "unknown key 'Rootfs'"),
        (ONE + b"rootfs\n", "expected key=value"),
        (ONE + b"=x\n", "expected key=value"),
        (ONE + b"#rootfs=x\n", "unknown key"),
        (ONE + LINE_A, "is there twice"),
        (b"cfsdig1\nrootfs=\n", "rootfs=''"),
        (b"cfsdig1\nrootfs=fsverity-sha256-12:\n", "wrong length"),
        (b"cfsdig1\nrootfs=?fsverity-sha256-12:%s\n" % A.encode(), "rootfs='?"),
        (b"cfsdig1\nrootfs=%s\n" % A.encode(), "expected fsverity-sha256-12:"),
        (b"cfsdig1\nrootfs=sha256:%s\n" % A.encode(), "expected fsverity-sha256-12:"),
        (ONE.replace(b"a1", b"A1", 1), "lower-case"),
        (ONE.replace(b"sha256", b"sha512"), "wrong length"),
        (ONE.replace(b"a1\n", b"a1 \n"), "wrong length"),
        (ONE.replace(b"fsverity", b"fsv\xc3\xa9rity"), "byte 0xc3"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_at_most_32() -> None:
    many = [Digest(1, bytes([n]) * 32) for n in range(33)]
    assert payload.parse(payload.format(many[:32]), "x") == many[:32]
    line = b"rootfs=fsverity-sha256-12:%s\n"
    assert "33 digests" in refusal(b"cfsdig1\n" + b"".join(line % d.hex.encode() for d in many))
    for wrong in ([], many, many[:1] * 2):
        with pytest.raises(ValueError, match="digests"):
            payload.format(wrong)
    with pytest.raises(ValueError, match="bytes"):
        payload.format([Digest(2, bytes([n]) * 64) for n in range(32)])


@given(st.lists(digests, min_size=1, max_size=20, unique=True), st.integers(0, 400))
def test_round_trip(found: list[Digest], padding: int) -> None:
    assert payload.parse(payload.format(found) + b"\0" * padding, "x") == found


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: ONE + tail))
def test_any_bytes_are_a_payload_of_one_spelling_or_refused(data: bytes) -> None:
    try:
        found = payload.parse(data, "x")
    except Refused:
        return
    assert payload.format(found) == data.rstrip(b"\0")


@given(st.integers(0, len(ONE) - 1), st.integers(0, 7))
def test_no_flipped_bit_gives_the_same_digest(at: int, bit: int) -> None:
    data = bytearray(ONE)
    data[at] ^= 1 << bit
    try:
        assert payload.parse(bytes(data), "x") != payload.parse(ONE, "x")
    except Refused:
        pass
