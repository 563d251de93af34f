# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for what is compressed: gzip and zstd by hand, since each release of their compressors
makes other bytes."""

import zlib
from collections.abc import Iterable, Sequence

_LENGTHS = (*range(3, 11), 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
            163, 195, 227, 258)  # fmt: skip
_DISTANCES = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025,
              1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577)  # fmt: skip
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_END = 256
_FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
_FIXED_DISTANCES = [5] * 30
_TEXT, _HCRC, _EXTRA, _NAME, _COMMENT = 1, 2, 4, 8, 16

Symbol = int | tuple[int, int]
"""A byte, or a length and a distance."""


class _Bits:
    """RFC 1951, 3.1.1: the lowest bit first, and codes the other way round."""

    def __init__(self) -> None:
        self._value = self._count = 0

    def put(self, value: int, count: int) -> None:
        self._value |= value << self._count
        self._count += count

    def code(self, value: int, count: int) -> None:
        for at in reversed(range(count)):
            self.put(value >> at & 1, 1)

    def align(self) -> None:
        self._count += -self._count % 8

    @property
    def data(self) -> bytes:
        return self._value.to_bytes((self._count + 7) // 8, "little")


def _codes(lengths: Sequence[int]) -> dict[int, tuple[int, int]]:
    """3.2.2: symbol to code and length."""
    found, code = {}, 0
    for length in range(1, 16):
        for symbol, wanted in enumerate(lengths):
            if wanted == length:
                found[symbol] = (code, length)
                code += 1
        code <<= 1
    return found


def _write(bits: _Bits, symbols: Iterable[Symbol], lengths: Sequence[int],
           distances: Sequence[int]) -> None:  # fmt: skip
    codes, places = _codes(lengths), _codes(distances)
    for symbol in symbols:
        if isinstance(symbol, int):
            bits.code(*codes[symbol])
            continue
        length, distance = symbol
        # 258 has a code of its own, beside the last one that 227 has.
        at = 28 if length == 258 else max(i for i in range(28) if _LENGTHS[i] <= length)
        bits.code(*codes[257 + at])
        bits.put(length - _LENGTHS[at], 0 if at in (*range(8), 28) else at // 4 - 1)
        at = max(i for i in range(30) if _DISTANCES[i] <= distance)
        bits.code(*places[at])
        bits.put(distance - _DISTANCES[at], max(at // 2 - 1, 0))


def _stored(bits: _Bits, data: bytes, *, last: bool = True, other: int | None = None) -> None:
    bits.put(last, 3)
    bits.align()
    size = len(data)
    bits.put(size, 16)
    bits.put(size ^ 0xFFFF if other is None else other, 16)
    bits.put(int.from_bytes(data, "little"), 8 * size)


def _fixed(bits: _Bits, symbols: Sequence[Symbol], *, last: bool = True) -> None:
    bits.put(last | 2, 3)
    _write(bits, (*symbols, _END), _FIXED, _FIXED_DISTANCES)


def _dynamic(
    bits: _Bits, symbols: Sequence[Symbol], lengths: Sequence[int], distances: Sequence[int], *,
    last: bool = True, repeats: Sequence[tuple[int, int]] | None = None,
) -> None:  # fmt: skip
    """`repeats`: how the lengths are written: symbols of 3.2.7, and the value behind each."""
    bits.put(last | 4, 3)
    bits.put(len(lengths) - 257, 5)
    bits.put(len(distances) - 1, 5)
    bits.put(15, 4)
    of_lengths = [4] * 13 + [5] * 6
    for symbol in _ORDER:
        bits.put(of_lengths[symbol], 3)
    codes = _codes(of_lengths)
    if repeats is None:
        repeats = [(length, 0) for length in (*lengths, *distances)]
    for symbol, value in repeats:
        bits.code(*codes[symbol])
        bits.put(value, {16: 2, 17: 3, 18: 7}.get(symbol, 0))
    _write(bits, (*symbols, _END), lengths, distances)


def _lengths(**of: int) -> list[int]:
    """Of the symbols by their numbers: `_97=1`."""
    found = [0] * (max(_END, *(int(name[1:]) for name in of)) + 1)
    for name, length in of.items():
        found[int(name[1:])] = length
    return found


def _made(*blocks: tuple[object, ...]) -> bytes:
    bits = _Bits()
    for number, (write, *arguments) in enumerate(blocks):
        assert callable(write)
        write(bits, *arguments, last=number == len(blocks) - 1)
    return bits.data


def _bodies() -> Iterable[bytes]:
    """Of blocks that are stored, and with the codes that are known: right, broken and cut."""
    text: list[Symbol] = list(b"hello hello ")
    for data in (b"", b"x", b"hello\n", bytes(range(256)), b"s" * 1000):
        yield _made((_stored, data))
        yield _made((_stored, data), (_stored, data))
    yield _made((_fixed, []))
    yield _made((_fixed, text), (_stored, b"stored"), (_fixed, text))
    for length in (3, 4, 10, 11, 12, 18, 34, 66, 130, 257, 258):
        yield _made((_fixed, [*text, (length, 6)]))
    for distance in (1, 2, 4, 5, 12, 13, 24, 100, 1000, 3000):
        yield _made((_fixed, [*text * 90, (20, distance)]))
        yield _made((_fixed, [*text, (20, distance)]))  # some before the beginning
    for distance in (9000, 20000, 32768):
        yield _made((_fixed, [97, *[(258, 1)] * 127, (258, distance)]))
    yield _made((_fixed, [97, *[(258, 1)] * 4000]))  # much of little
    bits = _Bits()
    _stored(bits, b"hello", other=7)
    yield bits.data
    yield b"\x07\0\0"  # a kind that is none
    body = _made((_fixed, [*text, (258, 6)]))
    yield from (body[:size] for size in range(0, len(body), 3))


def _dynamic_bodies() -> Iterable[bytes]:
    """Of blocks with codes of their own: right, with each rule broken, and cut."""
    a_or_end, one = _lengths(_97=1, _256=1), [1]
    with_match = _lengths(_97=1, _256=2, _257=3, _258=3)
    many = _lengths(**{f"_{i}": 8 for i in range(255)}, _255=9, _256=9)
    for lengths, distances, symbols in (
        (a_or_end, [0], [97] * 9), (a_or_end, one, [97]), (with_match, one, [97, (3, 1), (4, 1)]),
        (with_match, [1, 1], [97, 97, (3, 2)]), (with_match, [2, 1, 2], [97, 97, 97, (4, 3)]),
        (many, [0], list(range(256))), (_lengths(_256=1), [0], []),
        (_lengths(_97=1, _98=2, _99=3, _100=4, _101=5, _102=6, _103=7, _104=8, _105=9, _106=10,
                  _107=11, _108=12, _109=13, _110=14, _111=15, _256=15), [0], list(range(97, 112))),
        ([*with_match, *[0] * 27], [1, *[0] * 29], [97, (3, 1)]),
        # Too many codes, too few, and those that no symbol has.
        (_lengths(_97=1, _98=1, _256=1), [0], [97]), (_lengths(_97=2, _256=2), [0], [97]),
        (with_match, [1, 1, 1], [97, (3, 1)]), (with_match, [2, 2], [97, (3, 1)]),
        ([*with_match, *[0] * 28], [1], [97]), (with_match, [1, *[0] * 30], [97]),
        (with_match, [0, 0, 1], [97] * 4 + [(3, 3)]),
    ):  # fmt: skip
        yield _made((_dynamic, symbols, lengths, distances))
    for repeats in (
        [(18, 86), (1, 0), (18, 127), (18, 9), (1, 0), (0, 0)],
        [(18, 86), (1, 0), (18, 127), (18, 9), (1, 0), (1, 0), (16, 0)],
        [(16, 0), (1, 0)], [(17, 7), (18, 127)], [(18, 127)] * 3,
    ):  # fmt: skip
        bits = _Bits()
        _dynamic(bits, [97], a_or_end, [0], repeats=repeats)
        yield bits.data
    body = _made((_dynamic, [97] * 3, a_or_end, [0]))
    yield from (body[:size] for size in range(0, len(body), 3))


def _header(flags: int = 0, *, kind: int = 8, extra: bytes = b"AB\2\0xy", wrong: int = 0) -> bytes:
    made = b"\x1f\x8b%c%c\0\0\0\0\0\xff" % (kind, flags)
    if flags & _EXTRA:
        made += len(extra).to_bytes(2, "little") + extra
    made += b"name\0" * (flags & _NAME > 0) + b"said of it\0" * (flags & _COMMENT > 0)
    if flags & _HCRC:
        made += (zlib.crc32(made) & 0xFFFF ^ wrong).to_bytes(2, "little")
    return made


def _member(data: bytes = b"hello hello\n", flags: int = 0) -> bytes:
    bits = _Bits()
    _fixed(bits, list(data))
    return _header(flags) + bits.data + _trailer(data)


def _trailer(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


def _files() -> Iterable[bytes]:
    """With headers of all kinds, of gzip; and of zstd (RFC 8878) what needs no tables."""
    whole = _member(flags=31)
    yield from (b"", b"not compressed", b"\x1f", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
    yield from (_member(flags=flags) for flags in (0, 1, 2, 4, 8, 16, 31, 32, 64, 128))
    yield _header(_EXTRA, extra=b"") + _member()[10:]
    yield _header(_HCRC, wrong=1) + _member()[10:]
    yield _header(kind=7) + _member()[10:]
    yield from (whole[:size] for size in range(2, len(whole), 5))
    yield from (whole + more for more in (b"\0", b"x", b"\x1f", whole, _member(b""), whole[:20]))
    for at in (-1, -5):
        yield whole[:at] + bytes([whole[at] ^ 1]) + whole[len(whole) + at + 1 :]

    def block(data: bytes, kind: int = 0, *, last: bool = True, size: int | None = None) -> bytes:
        size = len(data) if size is None else size
        return (last | kind << 1 | size << 3).to_bytes(3, "little") + data

    zstd = b"\x28\xb5\x2f\xfd"
    raw = zstd + b"\x20\x05" + block(b"hello")
    yield raw
    yield raw + raw
    yield raw + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + raw
    yield raw + b"x"
    yield zstd + b"\x20\x04" + block(b"hello")  # not what it said
    yield zstd + b"\0\x58" + block(b"he", last=False) + block(b"llo")
    yield zstd + b"\0\x58" + block(b"z", 1, size=100_000)
    yield zstd + b"\0\xff" + block(b"hello")  # a window too large
    yield zstd + b"\x20\x05" + block(b"hello", 3)
    yield zstd + b"\x24\x05" + block(b"hello") + b"\0\0\0\0"
    yield from (raw[:size] for size in range(4, len(raw)))


def inflate() -> list[bytes]:
    """For fuzz/c/inflate.cc: how, and where pieces end."""
    rooms = (255, 0, 3, 30)
    found = [
        b"\1\0%c" % rooms[at % 4] + body for at, body in enumerate((*_bodies(), *_dynamic_bodies()))
    ]
    found += [b"\0\0%c" % rooms[at % 4] + data for at, data in enumerate(_files())]
    whole = _member(flags=31)
    for at in (0, 1, 2, 5, 10, 11, 15, 20, 40, len(whole) - 8, len(whole) - 1, len(whole)):
        found += [b"\2%c\xff" % at + whole, b"\2%c\0" % at + whole + whole]
    return found
