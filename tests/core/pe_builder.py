# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Small valid PE files, and ways to break them. Format: Microsoft, "PE Format"."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

HEADER_OFFSET = 0x80
FILE_ALIGNMENT = 512
SECTION_ALIGNMENT = 4096
X86_64 = 0x8664
READ_ONLY_DATA = 0x40000040

# Offset from the PE signature and format of a header field.
_FIELDS = {
    "Signature": (0, "<I"),
    "Machine": (4, "<H"),
    "NumberOfSections": (6, "<H"),
    "SizeOfOptionalHeader": (20, "<H"),
    "Magic": (24, "<H"),
    "SectionAlignment": (56, "<I"),
    "FileAlignment": (60, "<I"),
    "SizeOfImage": (80, "<I"),
    "SizeOfHeaders": (84, "<I"),
    "CheckSum": (88, "<I"),
    "Subsystem": (92, "<H"),
}
# The same in an entry of the section table.
_SECTION_FIELDS = {
    "VirtualSize": 8,
    "VirtualAddress": 12,
    "SizeOfRawData": 16,
    "PointerToRawData": 20,
    "Characteristics": 36,
}


@dataclass(frozen=True)
class Section:
    """`virtual_size`: the length of `data`, unless said otherwise."""

    name: bytes
    data: bytes = b""
    virtual_size: int | None = None


def build(
    sections: Sequence[Section],
    *,
    plus: bool = True,
    machine: int = X86_64,
    directories: int = 16,
    certificates: bytes = b"",
) -> bytes:
    """A PE32+ (or PE32) file: headers, the sections' data in order, certificates (a multiple of 8).

    It is at least 1 KiB long where a section has data.
    """
    optional_size = (112 if plus else 96) + 8 * directories
    table = HEADER_OFFSET + 24 + optional_size
    headers_size = _aligned(table + 40 * len(sections), FILE_ALIGNMENT)

    entries, body, address = b"", b"", SECTION_ALIGNMENT
    for section in sections:
        virtual_size = len(section.data) if section.virtual_size is None else section.virtual_size
        raw = section.data.ljust(_aligned(len(section.data), FILE_ALIGNMENT), b"\0")
        pointer = headers_size + len(body) if raw else 0
        entries += struct.pack(
            "<8sIIIIIIHHI",
            section.name, virtual_size, address, len(raw), pointer, 0, 0, 0, 0, READ_ONLY_DATA,
        )  # fmt: skip
        body += raw
        address = _aligned(address + max(virtual_size, len(raw), 1), SECTION_ALIGNMENT)

    coff = struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, optional_size, 0x22)
    optional = struct.pack("<HBBIIIII", 0x20B if plus else 0x10B, 14, 0, 0, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<Q", 1 << 32) if plus else struct.pack("<II", 0, 1 << 22)
    optional += struct.pack(
        "<IIHHHHHHIIIIHH", SECTION_ALIGNMENT, FILE_ALIGNMENT, 0, 0, 0, 0, 0, 0, 0, address,
        headers_size, 0, 10, 0,
    )  # fmt: skip
    optional += struct.pack("<QQQQ" if plus else "<IIII", 0, 0, 0, 0)
    optional += struct.pack("<II", 0, directories)
    tables = bytearray(8 * directories)
    if certificates:
        struct.pack_into("<II", tables, 4 * 8, headers_size + len(body), len(certificates))
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", HEADER_OFFSET)
    dos = dos.ljust(HEADER_OFFSET, b"\0")
    headers = dos + b"PE\0\0" + coff + optional + bytes(tables) + entries
    return headers.ljust(headers_size, b"\0") + body + certificates


def with_field(data: bytes, name: str, value: int) -> bytes:
    """Another value in a header field, named as Microsoft does; or `e_lfanew`."""
    if name == "e_lfanew":
        return _put(data, 60, "<I", value)
    offset, form = _FIELDS[name]
    return _put(data, _header(data) + offset, form, value)


def with_directories(data: bytes, count: int) -> bytes:
    """Another NumberOfRvaAndSizes."""
    return _put(data, _directories(data) - 4, "<I", count)


def with_certificates(data: bytes, offset: int, size: int) -> bytes:
    """Another entry in data directory 4."""
    data = _put(data, _directories(data) + 32, "<I", offset)
    return _put(data, _directories(data) + 36, "<I", size)


def with_section(data: bytes, index: int, name: bytes | None = None, **fields: int) -> bytes:
    """Other values in an entry of the section table."""
    (optional_size,) = struct.unpack_from("<H", data, _header(data) + 20)
    entry = _header(data) + 24 + optional_size + 40 * index
    if name is not None:
        data = data[:entry] + name.ljust(8, b"\0") + data[entry + 8 :]
    for field, value in fields.items():
        data = _put(data, entry + _SECTION_FIELDS[field], "<I", value)
    return data


def _header(data: bytes) -> int:
    (offset,) = struct.unpack_from("<I", data, 60)
    assert isinstance(offset, int)
    return offset


def _directories(data: bytes) -> int:
    optional = _header(data) + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    return optional + (112 if magic == 0x20B else 96)


def _put(data: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
