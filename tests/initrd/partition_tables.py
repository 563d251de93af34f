# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes partition tables for tests; CRCs are left zero, since gpt.py says why it reads none."""

import uuid

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

# number, type, UUID, first and last sector, attributes
Row = tuple[int, str, str, int, int] | tuple[int, str, str, int, int, int]


def mbr(rows: list[tuple[int, int, int]], signature: int = 0) -> bytes:
    """rows: type, first sector, sectors."""
    slots = b"".join(
        bytes([0, 0, 0, 0, kind, 0, 0, 0])
        + first.to_bytes(4, "little")
        + size.to_bytes(4, "little")
        for kind, first, size in rows
    )
    head = bytes(440) + signature.to_bytes(4, "little") + bytes(2)
    return head + slots.ljust(64, b"\0") + b"\x55\xaa"


def gpt(rows: list[Row], sector: int = 512, count: int = 128, size: int = 128) -> bytearray:
    entries = bytearray(count * size)
    for number, kind, own, *numbers in rows:
        entry = uuid.UUID(kind).bytes_le + uuid.UUID(own).bytes_le
        entry += b"".join(value.to_bytes(8, "little") for value in numbers)
        entries[(number - 1) * size : (number - 1) * size + len(entry)] = entry
    header = bytearray(sector)
    header[:16] = b"EFI PART" + (0x10000).to_bytes(4, "little") + (92).to_bytes(4, "little")
    for at, value in ((24, 1), (32, 9999), (40, 6), (48, 9000), (72, 2)):
        header[at : at + 8] = value.to_bytes(8, "little")
    for at, value in ((80, count), (84, size)):
        header[at : at + 4] = value.to_bytes(4, "little")
    first_sector = mbr([(0xEE, 1, 0xFFFFFFFF)]).ljust(sector, b"\0")
    return bytearray(first_sector) + header + entries
