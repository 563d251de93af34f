# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Changing sections of a PE image (a UKI). Reading is the core's: `_cfs.pe_parse`.

Format: Microsoft, "PE Format". Raw data is laid out anew without gaps, in the old order. In memory
a section stays where it is unless one before it grew into it; then it moves up. That is sound for
what ukify and objcopy add behind the stub: the stub finds those by name. A section that the headers
point into (entry point, data directories) is never moved.
"""

from __future__ import annotations

import _cfs
import struct
from collections.abc import Mapping, Sequence

Piece = bytes | bytearray | memoryview
"""A part of what is written. Parts are joined in the file alone: an initrd has 400 MB."""

SECTION_SIZE = 40
_CHUNK = 1 << 20
_SECTION = struct.Struct("<8sIIIIIIHHI")
_READ_ONLY_DATA = 0x40000040  # IMAGE_SCN_MEM_READ | IMAGE_SCN_CNT_INITIALIZED_DATA
_LOCAL_SYMBOLS_STRIPPED = 0x0008
_CERTIFICATES = 4  # the one data directory that holds a file offset, not an address

# Offsets from "PE\0\0" and from the optional header; the same in PE32 and PE32+.
_SECTION_COUNT, _SYMBOLS, _CHARACTERISTICS, _OPTIONAL = 6, 12, 22, 24
_INITIALIZED, _ENTRY, _IMAGE_SIZE, _HEADERS_SIZE = 8, 16, 56, 60


class PeWriteError(ValueError):
    """An image that cannot be changed safely; the text says why."""


class _Section:
    def __init__(
        self,
        name: bytes,
        virtual_size: int,
        address: int,
        raw: Sequence[Piece],  # padded to the file alignment; empty: nothing in the file
        *,
        order: int,  # where it was in the file
        header: bytes | None,  # the 40 bytes as they were
    ) -> None:
        self.name = name
        self.virtual_size = virtual_size
        self.address = address
        self.raw = raw
        self.order = order
        self.header = header

    @property
    def end(self) -> int:
        """In memory. Raw data may be longer than that by its padding."""
        return self.address + (self.virtual_size or self.stored)

    @property
    def stored(self) -> int:
        """Bytes in the file."""
        return _size(self.raw)


def rewrite(
    data: bytes,
    *,
    change: Mapping[int, Sequence[Piece]],
    remove: Sequence[int] = (),
    add: Sequence[tuple[bytes, bytes]] = (),
) -> list[Piece]:
    """The image with the contents of some sections changed, some removed and some added at the end.

    In pieces, many of which are views of `data`. Sections are given by their index in the table.
    OSError: no valid PE. PeWriteError: signed, data outside of sections, no room, or a section
    would move that the headers point into.
    """
    fields, table = _cfs.pe_parse(data)
    _check_nothing_else(data, fields, table)
    alignment = fields["file_alignment"]
    before = [_read_section(data, fields, index) for index in range(len(table))]
    sections = [section for index, section in enumerate(before) if index not in remove]
    for index, pieces in change.items():
        before[index].virtual_size = _size(pieces)
        before[index].raw = _padded(pieces, alignment)
    used = _addresses(data, fields)
    if not sections or any(_holds(before[index], at) for index in remove for at in used):
        raise PeWriteError("a section that the headers point into cannot be removed")
    _move(sections, used, fields["section_alignment"])
    for name, content in add:
        if len(name) > 8 or not content:
            raise PeWriteError(f"section {name!r}: no valid name or no content")
        address = _align(_memory_end(sections), fields["section_alignment"])
        raw = _padded([content], alignment)
        padded = name.ljust(8, b"\0")
        new = _Section(padded, len(content), address, raw, order=len(data), header=None)
        sections.append(new)
    grown = sum(s.virtual_size for s in sections) - sum(section[1] for section in table)
    return _lay_out(data, fields, sections, grown)


def checksum(pieces: Sequence[Piece]) -> int:
    """OptionalHeader.CheckSum of an image in which it is 0: folded sum of the 16-bit words, plus
    length."""
    total = length = 0
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK):
            chunk = piece[start : start + _CHUNK]
            # 2^16 = 1 (mod 2^16 - 1): the remainder of the whole number is the folded sum of its
            # words. A word's second byte is 2^8 of it, also where a piece begins with it.
            total += int.from_bytes(chunk, "little") % 0xFFFF << 8 * (length % 2)
            length += len(chunk)
    return (total % 0xFFFF or 0xFFFF) + length


def _check_nothing_else(
    data: bytes, fields: Mapping[str, int], table: list[tuple[bytes, int, int, int, int, int]]
) -> None:
    """Refuses what laying the file out anew would lose: certificates, data outside of sections."""
    if fields["certificate_size"]:
        raise PeWriteError("signed: a change would break the signature")
    covered = fields["size_of_headers"]
    for start, size in sorted((section[4], section[3]) for section in table if section[3]):
        if data[covered:start].strip(b"\0"):
            raise PeWriteError(f"data in no section at byte {covered}")
        covered = start + size
    # Symbols are for linkers; stubs were shipped with them by mistake, and ukify drops them too.
    symbols, count = struct.unpack_from("<II", data, fields["header_offset"] + _SYMBOLS)
    if symbols >= covered and count:
        end = symbols + 18 * count
        strings = int.from_bytes(data[end : end + 4], "little")
        if data[covered:symbols].strip(b"\0") or end + strings != len(data):
            raise PeWriteError(f"data in no section at byte {covered}")
    elif data[covered:].strip(b"\0"):
        raise PeWriteError(f"data in no section at byte {covered}")


def _read_section(data: bytes, fields: Mapping[str, int], index: int) -> _Section:
    offset = fields["section_table"] + SECTION_SIZE * index
    header = data[offset : offset + SECTION_SIZE]
    name, virtual_size, address, raw_size, pointer, *_ = _SECTION.unpack(header)
    stored = memoryview(data)[pointer : pointer + raw_size]
    raw = _padded([stored], fields["file_alignment"])
    return _Section(name, virtual_size, address, raw, order=pointer, header=header)


def _move(sections: list[_Section], used: list[int], alignment: int) -> None:
    end = 0
    for section in sorted(sections, key=lambda section: section.address):
        address = max(section.address, _align(end, alignment))
        if address != section.address and any(_holds(section, at) for at in used):
            name = section.name.rstrip(b"\0").decode("ascii", "backslashreplace")
            raise PeWriteError(f"section {name} would move, and the headers point into it")
        section.address = address
        end = section.end


def _addresses(data: bytes, fields: Mapping[str, int]) -> list[int]:
    """The addresses that the headers point to: entry point, data directories."""
    (entry,) = struct.unpack_from("<I", data, fields["header_offset"] + _OPTIONAL + _ENTRY)
    first = fields["certificate_directory"] - 8 * _CERTIFICATES
    count = int.from_bytes(data[first - 4 : first], "little")
    pairs = [struct.unpack_from("<II", data, first + 8 * index) for index in range(count)]
    return [entry] + [
        address for index, (address, size) in enumerate(pairs) if index != _CERTIFICATES and size
    ]


def _holds(section: _Section, address: int) -> bool:
    return section.address <= address < section.end


def _lay_out(
    data: bytes, fields: Mapping[str, int], sections: list[_Section], grown: int
) -> list[Piece]:
    table_end = fields["section_table"] + SECTION_SIZE * len(sections)
    headers_size = _align(max(fields["size_of_headers"], table_end), fields["file_alignment"])
    if headers_size > min(section.address for section in sections):
        raise PeWriteError("no room in the headers for another section")
    if _memory_end(sections) > 0xFFFFFFFF:
        raise PeWriteError("the image would not fit in 4 GiB")
    head = _headers(data, fields, sections, headers_size, grown)
    stored = sorted((s for s in sections if s.stored), key=lambda s: s.order)
    offset = headers_size
    pointers: dict[int, int] = {}
    for section in stored:
        pointers[id(section)] = offset
        offset += section.stored
    for index, section in enumerate(sections):
        at = fields["section_table"] + SECTION_SIZE * index
        head[at : at + SECTION_SIZE] = _pack(section, pointers.get(id(section), 0))
    pieces = [head, *(piece for section in stored for piece in section.raw)]
    at = fields["checksum_offset"]
    struct.pack_into("<I", head, at, 0)
    struct.pack_into("<I", head, at, checksum(pieces))
    return pieces


def _headers(
    data: bytes, fields: Mapping[str, int], sections: list[_Section], size: int, grown: int
) -> bytearray:
    """Everything before the first section's data, with an empty section table."""
    table, pe = fields["section_table"], fields["header_offset"]
    head = bytearray(data[: fields["size_of_headers"]].ljust(size, b"\0"))
    old_size = SECTION_SIZE * fields["section_count"]
    head[table : table + old_size] = bytes(old_size)
    if head[table : table + SECTION_SIZE * len(sections)].strip(b"\0"):
        raise PeWriteError("data behind the section table, where the new section would go")
    struct.pack_into("<H", head, pe + _SECTION_COUNT, len(sections))
    if struct.unpack_from("<I", head, pe + _SYMBOLS) != (0,):
        struct.pack_into("<II", head, pe + _SYMBOLS, 0, 0)
        (flags,) = struct.unpack_from("<H", head, pe + _CHARACTERISTICS)
        struct.pack_into("<H", head, pe + _CHARACTERISTICS, flags | _LOCAL_SYMBOLS_STRIPPED)
    optional = pe + _OPTIONAL
    (initialized,) = struct.unpack_from("<I", head, optional + _INITIALIZED)
    memory_size = _align(_memory_end(sections), fields["section_alignment"])
    struct.pack_into("<I", head, optional + _INITIALIZED, max(0, initialized + grown))
    struct.pack_into("<I", head, optional + _IMAGE_SIZE, memory_size)
    struct.pack_into("<I", head, optional + _HEADERS_SIZE, size)
    return head


def _pack(section: _Section, pointer: int) -> bytes:
    rest: tuple[int, ...] = (0, 0, 0, 0, _READ_ONLY_DATA)
    if section.header is not None:
        rest = _SECTION.unpack(section.header)[5:]
    size = section.stored
    return _SECTION.pack(section.name, section.virtual_size, section.address, size, pointer, *rest)


def _memory_end(sections: Sequence[_Section]) -> int:
    return max(section.end for section in sections)


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _size(pieces: Sequence[Piece]) -> int:
    return sum(len(piece) for piece in pieces)


def _padded(content: Sequence[Piece], alignment: int) -> list[Piece]:
    return [*content, bytes(-_size(content) % alignment)]
