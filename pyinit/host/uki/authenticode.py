# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What firmware measures of a PE file: its Authenticode hash, the same before and after signing.

Left out are the checksum, the entry of the certificate table and that table. Boot loaders and the
kernel inside a UKI are not as strict as a UKI has to be, so this is read as edk2 reads it. The
initrd's reader (csrc/parse/authenticode.c) cannot stand in for it: it refuses gaps, and has to.
Format: Microsoft, "Windows Authenticode Portable Executable Signature Format".
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

from pyinit.initrd.report.errors import Refused

_E_LFANEW = 0x3C
_FILE_HEADER = struct.Struct("<4sHHIIIHH")  # with the signature
_DIRECTORIES = {0x10B: 96, 0x20B: 112}  # offset in the optional header, by its magic
_HEADERS_SIZE, _CHECKSUM = 60, 64  # offsets in the optional header
_CERTIFICATES = 4  # the index of that data directory
_SECTION = struct.Struct("<8sIIIIIIHHI")


def digests(data: bytes | memoryview, banks: Iterable[str], where: str) -> dict[str, bytes]:
    """By the name of a bank (hashlib's). Refused, with `where`: no PE file, or not whole."""
    view = memoryview(data)
    try:
        parts = list(_parts(view))
    except (struct.error, _Broken):
        raise Refused("source", where, "not a whole PE file", "an EFI application") from None
    hashes = {bank: hashlib.new(bank) for bank in banks}
    for each in hashes.values():
        for start, end in parts:
            each.update(view[start:end])
    return {bank: each.digest() for bank, each in hashes.items()}


class _Broken(Exception):
    """Headers that lead out of the file, or over one another."""


def _parts(view: memoryview) -> Iterator[tuple[int, int]]:
    """What is hashed, as offsets in the file."""
    (start,) = struct.unpack_from("<I", view, _E_LFANEW)
    signature, _, count, _, _, _, optional_size, _ = _FILE_HEADER.unpack_from(view, start)
    optional = start + _FILE_HEADER.size
    (magic,) = struct.unpack_from("<H", view, optional)
    if bytes(view[:2]) != b"MZ" or signature != b"PE\0\0" or magic not in _DIRECTORIES:
        raise _Broken
    (headers_size,) = struct.unpack_from("<I", view, optional + _HEADERS_SIZE)
    directories = optional + _DIRECTORIES[magic]
    (directory_count,) = struct.unpack_from("<I", view, directories - 4)
    table = optional + optional_size
    checksum, certificates_size = optional + _CHECKSUM, 0
    cuts = [(checksum, checksum + 4)]
    if directory_count > _CERTIFICATES:
        entry = directories + 8 * _CERTIFICATES
        cuts.append((entry, entry + 8))
        _, certificates_size = struct.unpack_from("<II", view, entry)
    if not cuts[-1][1] <= table <= headers_size - count * _SECTION.size:
        raise _Broken
    at = 0
    for cut, end in cuts:
        yield at, cut
        at = end
    yield at, headers_size
    rows = [_SECTION.unpack_from(view, table + index * _SECTION.size) for index in range(count)]
    covered = headers_size
    for offset, size in sorted((row[4], row[3]) for row in rows if row[3]):
        if offset + size > len(view):
            raise _Broken
        yield offset, offset + size
        covered += size
    # What is behind the sections, by their sizes alone: as edk2 counts.
    if covered + certificates_size > len(view):
        raise _Broken
    yield covered, len(view) - certificates_size
