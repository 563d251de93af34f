# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Layers that gzip has compressed, beside zlib: what that refuses is refused, and the rest is read
as it reads it. ISA-L alone takes blocks whose codes are not all there (fuzz/c/inflate.cc)."""

import _cfshost
import random
import tarfile
import time
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from fuzz.tar_seeds import END, file
from pyinit.host.store import layers
from pyinit.initrd.report.errors import Refused
from tests.host.store.layered import image, tar

PIECE = 1 << 18  # what is read at a time
_TEXT, _HCRC, _EXTRA, _NAME, _COMMENT = 1, 2, 4, 8, 16
_DATA = file() + file(b"b", b"content " * 20) + END


def header(flags: int = 0, name: bytes = b"name", extra: bytes = b"AB\x02\x00xy") -> bytes:
    """RFC 1952, 2.3."""
    made = b"\x1f\x8b\x08%c\0\0\0\0\0\xff" % flags
    if flags & _EXTRA:
        made += len(extra).to_bytes(2, "little") + extra
    made += (name + b"\0") * (flags & _NAME > 0) + b"said of it\0" * (flags & _COMMENT > 0)
    if flags & _HCRC:
        made += (zlib.crc32(made) & 0xFFFF).to_bytes(2, "little")
    return made


def body(data: bytes, level: int = 6) -> bytes:
    made = zlib.compressobj(level, wbits=-15)
    return made.compress(data) + made.flush()


def trailer(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little") + (len(data) % (1 << 32)).to_bytes(4, "little")


def member(data: bytes, flags: int = 0, **more: bytes) -> bytes:
    return header(flags, **more) + body(data) + trailer(data)


def by_zlib(stored: bytes) -> bytes | None:
    """None: it is broken."""
    found = b""
    while stored:
        reader = zlib.decompressobj(31)
        try:
            found += reader.decompress(stored)
        except zlib.error:
            return None
        if not reader.eof:
            return None
        stored = reader.unused_data
    return found


class Beside:
    def __init__(self, place: Path) -> None:
        self._place = place / "layer"

    def image(self, stored: bytes) -> bytes | None:
        self._place.write_bytes(stored)
        try:
            return image([str(self._place)])
        except Refused:
            return None

    def check(self, stored: bytes) -> bool:
        """Is it taken?"""
        plain = by_zlib(stored)
        expected = None if plain is None else self.image(plain)
        assert self.image(stored) == expected, stored[:64].hex()
        return expected is not None


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path)


def test_headers(beside: Beside) -> None:
    for flags in range(32):
        assert beside.check(member(_DATA, flags))
        assert beside.check(member(_DATA[:5], flags) + member(_DATA[5:], 31 - flags))
    for flags in (0x20, 0x40, 0x80):
        assert not beside.check(member(_DATA, flags))
    assert beside.check(member(b"") + member(_DATA) + member(b""))
    assert beside.check(member(_DATA, _EXTRA | _NAME, extra=bytes(65535), name=b"n" * 100_000))


def _wrong() -> Iterator[bytes]:
    whole = member(_DATA, _HCRC)
    yield from (whole + more for more in (b"x", b"\0", b"\x1f", b"\x1f\x8b", whole[:-1], bytes(99)))
    for place in (4, 8, *range(10, 12), *range(-8, 0)):  # the header, and its sum; CRC and size
        broken = bytearray(whole)
        broken[place] ^= 0x10
        yield bytes(broken)
    yield header() + body(_DATA) + trailer(_DATA + b"\0")
    yield header() + body(_DATA) + trailer(_DATA)[:4] + bytes(4)
    yield b"\x1f\x8b\x07" + whole[3:]
    yield member(_DATA[:512]) + header() + body(_DATA[512:]) + trailer(_DATA)  # that of all


def test_what_is_wrong(beside: Beside) -> None:
    for stored in _wrong():
        assert not beside.check(stored)


def test_cut_anywhere(beside: Beside) -> None:
    whole = member(_DATA[:700], 31) + member(_DATA[700:], 31)
    taken = [length for length in range(2, len(whole) + 1) if beside.check(whole[:length])]
    assert taken == [len(whole)]


def test_a_bit_anywhere(beside: Beside) -> None:
    whole, end = member(_DATA, 31), len(header(31))
    for place, bit in product(range(2, len(whole)), (0, 3, 7)):
        broken = bytearray(whole)
        broken[place] ^= 1 << bit
        taken = beside.check(bytes(broken))
        # What is copied may stand in two places. The header has a sum.
        assert not taken or end <= place < len(whole) - 8


def test_a_header_across_two_pieces(beside: Beside) -> None:
    """And a trailer: what is left of one is in another piece."""
    second = member(_DATA[700:], 31)
    for at in range(-9, len(header(31)) + 1):
        first = member(_DATA[:700], _NAME, name=b"")
        name = b"n" * (PIECE - at - len(first))
        assert beside.check(member(_DATA[:700], _NAME, name=name) + second)


def test_blocks_of_each_kind(beside: Beside) -> None:
    """Stored, of fixed codes and of their own; copies from far away, and over pieces."""
    chance = random.Random(3)
    far = chance.randbytes(32768)
    content = far * 3 + b"z" * 300_000 + chance.randbytes(5) + far[:999] * 400
    data = tar([("one", tarfile.REGTYPE, {}, content), ("two", b"0", {}, content[::-1])])
    for level, strategy in product((0, 1, 9), (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_RLE)):
        made = zlib.compressobj(level, wbits=31, strategy=strategy)
        assert beside.check(made.compress(data) + made.flush())
    made = zlib.compressobj(wbits=31)
    pieces = [made.compress(data[at : at + 1000]) + made.flush(zlib.Z_FULL_FLUSH)
              for at in range(0, len(data), 1000)]  # fmt: skip
    assert beside.check(b"".join(pieces) + made.flush())


@pytest.mark.parametrize(
    "bits",
    [b"\x4b\x4c\x84\x03\x00", b"\x63\x00\x02", b"\x03\x02\x00", b"\x06", b"\x07", b"\x01\1\0\1\0"],
    ids=["too far", "too far at once", "no such distance", "no kind", "no kind at last", "length"],
)
def test_what_is_no_deflate(beside: Beside, bits: bytes) -> None:
    for data in (b"", b"aaaaaaaa", _DATA):
        beside.check(header() + bits + trailer(data))
    assert beside.image(header() + bits + trailer(b"")) is None


def seconds(path: Path) -> float:
    """Of a processor, to read a layer by one thread."""
    how = _cfshost.Adjustment()
    with layers.files([str(path)]) as parts:
        before = time.process_time()
        _cfshost.image_of_layers(layers._raw(parts), 1, 0, 1, how, lambda _, __: None)
        return time.process_time() - before


def test_contents_are_hashed_as_fast_as_any(tmp_path: Path) -> None:
    """What ISA-L leaves in registers makes that three times as slow, see inflate.cc. Contents that
    cannot be compressed are only copied."""
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    content = random.Random(0).randbytes(32 << 20)
    plain.write_bytes(tar([("one", tarfile.REGTYPE, {}, content)]))
    made = zlib.compressobj(0, wbits=31)
    stored.write_bytes(made.compress(plain.read_bytes()) + made.flush())
    both = [(seconds(plain), seconds(stored)) for _ in range(9)]
    assert min(one for _, one in both) < 2 * min(one for one, _ in both)
