# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The section table of any PE file, however little else of it is as a UKI has it.

An ESP has boot loaders, drivers and tools that the strict reader refuses: string tables, an odd
alignment. Whether such a file names a root at all is asked here; what it says, of the strict reader
alone. Format: PE Format (Microsoft), "COFF File Header" and "Section Table".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_E_LFANEW = 0x3C
_FILE_HEADER = struct.Struct("<4sHHIIIHH")  # with the signature
_ROW = struct.Struct("<8sIIIIIIHHI")


class Row(NamedTuple):
    """Of the table. `size`: VirtualSize, in bytes; `offset`: in the file."""

    name: str
    size: int
    offset: int


def sections(data: bytes) -> list[Row] | None:
    """All rows of the table. None: `data` is no PE file, or the table is not whole in it."""
    if data[:2] != b"MZ" or len(data) < _E_LFANEW + 4:
        return None
    start = int.from_bytes(data[_E_LFANEW : _E_LFANEW + 4], "little")
    if start + _FILE_HEADER.size > len(data):
        return None
    signature, _, count, _, _, _, optional, _ = _FILE_HEADER.unpack_from(data, start)
    table = start + _FILE_HEADER.size + optional
    if signature != b"PE\0\0" or table + count * _ROW.size > len(data):
        return None
    rows = (_ROW.unpack_from(data, table + index * _ROW.size) for index in range(count))
    return [Row(_name(row[0]), row[1], row[4]) for row in rows]


def _name(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "backslashreplace")
