# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the PE reader: files of many shapes, and one of them with each field at its edges."""

from itertools import product

from tests.core.pe_builder import (
    HEADER_OFFSET,
    Section,
    build,
    with_certificates,
    with_directories,
    with_field,
    with_section,
)

_MACHINES = (0x14C, 0x1C2, 0x1C4, 0x5032, 0x5064, 0x6232, 0x6264, 0x8664, 0xAA64)
_NAMES = (b".cfsdig", b".cfsdigX", b".cfsdi", b".profile", b"/4", b".linux\0x", b"", b"\xff" * 8)
_OURS = 1


def pe() -> list[bytes]:
    """See the module."""
    good = _good()
    return [
        good,
        *_shapes(),
        *_headers(good),
        *_sections(good),
        *_sizes(good),
    ]


def _good() -> bytes:
    sections = [Section(b".linux", b"l" * 600), Section(b".cfsdig", b"cfsdig1\n"), Section(b".bss")]
    return build(sections, certificates=b"c" * 24)


def _shapes() -> list[bytes]:
    data = Section(b".linux", b"x")
    found = [build([data, Section(b".cfsdig", b"d")], machine=machine) for machine in _MACHINES]
    found += [
        build([data], plus=plus, directories=directories, certificates=certificates)
        for plus, directories, certificates in product((True, False), (5, 15, 16), (b"", b"c" * 8))
    ]
    found += [build([data], directories=4), build([data]), build([data] * 2)]
    found += [build([Section(b".%d" % n) for n in range(n)] + [data]) for n in (12, 111, 512)]
    # Profiles: sections in base and profiles, once, twice, nowhere.
    ours, profile = Section(b".cfsdig", b"d"), Section(b".profile", b"p")
    for order in (
        [ours, profile, ours, profile, ours],
        [ours, ours],
        [profile, ours, ours],
        [profile, profile, ours],
        [data, profile, data],
        [profile, ours, profile, profile],
        [ours, profile, profile, profile, profile],
    ):
        found += [build(order), build(order, plus=False)]
    found += [build([data, Section(name, b"n")]) for name in _NAMES]
    return found


def _headers(good: bytes) -> list[bytes]:
    size = len(good)
    values = {
        "e_lfanew": (0, 56, 64, HEADER_OFFSET + 4, size - 24, size - 16, size, 0xFFFFFFF8),
        "Signature": (0, 0x454E, 0x14550),
        "Machine": (0, 0x8665, 0xFFFF),
        "NumberOfSections": (0, 1, 2, 4, 512, 513, 0xFFFF),
        "SizeOfOptionalHeader": (0, 95, 96, 111, 112, 224, 232, 241, 0xFFFF),
        "Magic": (0, 0x107, 0x10B, 0xFFFF),
        "FileAlignment": (0, 1, 256, 513, 1024, 4096, 65536, 131072, 0x80000000),
        "SectionAlignment": (0, 256, 512, 768, 0xFFFFFFFF),
        "SizeOfImage": (0, 0xFFFFFFFF),
        "SizeOfHeaders": (0, HEADER_OFFSET, 512, 560, 1024, size, size + 1, 0xFFFFFFFF),
        "CheckSum": (1, 0xFFFFFFFF),
        "Subsystem": (0, 9, 11, 0xFFFF),
    }
    found = [with_field(good, name, value) for name, edges in values.items() for value in edges]
    found += [with_directories(good, count) for count in (0, 4, 5, 15, 17, 0x20000010, 0xFFFFFFFF)]
    end = size - 24
    for offset, length in (
        (0, 0), (0, 24), (end, 0), (end + 4, 20), (end, 20), (end, 32), (end, 16), (8, size - 8),
        (end + 8, 16), (end - 512, 536), (0xFFFFFFF8, size + 8), (0xFFFFFFF8, 0xFFFFFFF8),
        (size, 8),
    ):  # fmt: skip
        found.append(with_certificates(good, offset, length))
    # The header of the header as the last bytes of the file, and nothing behind it.
    moved = with_field(good, "e_lfanew", size - 24)[:-24] + good[HEADER_OFFSET : HEADER_OFFSET + 24]
    # No data that could lie within them: only their own limit counts.
    empty = build([Section(b".bss", b"", 4096)]) + bytes(1024)
    found += [with_field(empty, "SizeOfHeaders", len(empty) + more) for more in (0, 1)]
    return [*found, moved, b"ZM" + good[2:]]


def _sections(good: bytes) -> list[bytes]:
    edges = {
        "VirtualSize": (0, 1, 511, 512, 513, 0x7FFFFFFF, 0xFFFFFFFF),
        "VirtualAddress": (0, 1, 4096, 0xFFFFF000),
        "SizeOfRawData": (0, 1, 511, 513, 1024, 0x7FFFFE00, 0xFFFFFE00, 0xFFFFFFFF),
        "PointerToRawData": (0, 1, 512, 1023, 1024, 1032, 1536, 2048, 2560, 0xFFFFFE00),
        "Characteristics": (0, 0x80, 0xFFFFFFFF),
    }
    found = [
        with_section(good, index, None, **{name: value})
        for index in (0, _OURS)
        for name, values in edges.items()
        for value in values
    ]
    found += [with_section(good, index, name) for index in (0, _OURS, 2) for name in _NAMES]
    # One over the other: the same range, the end, the start, within, around.
    for pointer, size in ((1024, 1024), (1024, 512), (1536, 512), (1024, 513), (1536, 1024)):
        found.append(with_section(good, _OURS, PointerToRawData=pointer, SizeOfRawData=size))
    return found


def _sizes(good: bytes) -> list[bytes]:
    found = [good[:size] for size in (0, 1, 2, 63, 64, 511, 1023, 1024, 1536, 2048, len(good) - 1)]
    return [*found, good + b"\0" * 8, good + b"\0" * 512, bytes(1024), b"MZ".ljust(1024, b"\0")]
