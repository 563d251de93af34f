# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Partition tables. An odd first byte: sectors of 4096 bytes; the rest is the disk."""

import uuid

from pyinit.initrd.machine import gpt


def _logical(disk: bytes, sector: int) -> None:
    looked_at: list[int] = []

    def read(number: int) -> bytes:
        looked_at.append(number)
        return disk[number * sector : number * sector + 512]

    try:
        found = gpt.logical(disk[:512], read)
    except ValueError as error:
        assert "has no end" in str(error)
    else:
        assert [entry.index for entry in found] == list(range(5, 5 + len(found)))
        assert all(entry.part_guid.endswith(f"-{entry.index:02x}") for entry in found)
        assert len(found) <= 4 * len(looked_at)
    assert len(looked_at) == len(set(looked_at)) <= gpt.EBRS_MAX


def check(data: bytes) -> None:
    disk = data[1:]
    for entry in gpt.mbr(disk[:512]):
        assert 1 <= entry.index <= 4
        assert 0 <= entry.first < 1 << 32
    sector = 4096 if data[:1] and data[0] & 1 else 512
    _logical(disk, sector)
    try:
        table = gpt.header(disk[: 2 * sector], sector)
        # As devices.py reads them: from where the header says, no more than the header says.
        assert table.offset % sector == 0
        assert table.count * table.entry_size <= gpt.ENTRIES_MAX * 512
        raw = disk[table.offset : table.offset + table.count * table.entry_size]
        entries = gpt.entries(table, raw)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert gpt.is_gpt(disk)
    assert len(raw) == table.count * table.entry_size
    assert len(entries) <= table.count
    for entry in entries:
        assert table.first_usable <= entry.first <= table.last_usable
        at = (entry.index - 1) * table.entry_size
        assert any(raw[at : at + 16])
        assert uuid.UUID(bytes_le=raw[at : at + 16]) == uuid.UUID(entry.kind)
        assert uuid.UUID(bytes_le=raw[at + 16 : at + 32]) == uuid.UUID(entry.part_guid)
        assert entry.attributes == int.from_bytes(raw[at + 48 : at + 56], "little")
