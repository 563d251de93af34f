# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Partition tables, as far as PARTUUID= and discover.py need them: GPT (UEFI 5.3), MBR and its
chains of EBRs.

No CRC is computed: without zlib it costs milliseconds of bytecode for 16 KiB of entries, and
proves nothing against who can write the disk. The kernel has checked it before it made the
partitions, and devices.py takes an entry only where the kernel has a partition of that number
and start. What is broken raises ValueError with the rule.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEADER_SIZE = 92
ENTRIES_MAX = 256
SECTOR_SIZES = (512, 4096)
EBRS_MAX = 256
"""The kernel has no numbers for more partitions on a disk."""

_EXTENDED = (0x05, 0x0F, 0x85)
_UNUSED = bytes(16)  # the type of an entry that is none


class Entry:
    """A partition in use: number from 1, its UUID, first LBA in sectors of the disk; of GPT its
    type and attributes too."""

    __slots__ = ("attributes", "first", "index", "kind", "part_guid")

    def __init__(
        self, index: int, part_guid: str, first: int, kind: str = "", attributes: int = 0
    ) -> None:
        self.index = index
        self.part_guid = part_guid
        self.first = first
        self.kind = kind
        self.attributes = attributes


class Header:
    """Where the entries lie, in bytes, and how many of what size."""

    __slots__ = ("count", "entry_size", "first_usable", "last_usable", "offset")

    def __init__(
        self, offset: int, count: int, entry_size: int, first_usable: int, last_usable: int
    ) -> None:
        self.offset = offset
        self.count = count
        self.entry_size = entry_size
        self.first_usable = first_usable
        self.last_usable = last_usable


def guid(data: bytes) -> str:
    """16 bytes as text: the first three fields are little-endian (UEFI appendix A)."""
    swapped = (data[3::-1] + data[5:3:-1] + data[7:5:-1] + data[8:]).hex()
    return "-".join((swapped[:8], swapped[8:12], swapped[12:16], swapped[16:20], swapped[20:]))


def is_gpt(data: bytes) -> bool:
    """Does the first sector say that a GPT follows: a protective MBR (or hybrid one)?"""
    return any(kind == 0xEE for _, kind, _, _ in _mbr_entries(data))


def header(data: bytes, sector_size: int) -> Header:
    """Of the disk's first two sectors."""
    if sector_size not in SECTOR_SIZES:
        raise ValueError(f"sectors of {sector_size} bytes")
    if len(data) < sector_size + HEADER_SIZE:
        raise ValueError("the disk ends before its GPT header")
    if not is_gpt(data):
        raise ValueError("no protective MBR")

    raw = data[sector_size : sector_size + HEADER_SIZE]
    if raw[:8] != b"EFI PART":
        raise ValueError("no GPT signature")
    revision, size, here = _number(raw, 8, 4), _number(raw, 12, 4), _number(raw, 24, 8)
    if revision != 0x10000 or not HEADER_SIZE <= size <= sector_size or here != 1:
        raise ValueError(f"GPT revision 0x{revision:x}, header of {size} bytes, at LBA {here}")
    lba, count, entry_size = _number(raw, 72, 8), _number(raw, 80, 4), _number(raw, 84, 4)
    if count > ENTRIES_MAX or not 128 <= entry_size <= 512 or entry_size % 8:
        raise ValueError(f"{count} GPT entries of {entry_size} bytes")
    first, last = _number(raw, 40, 8), _number(raw, 48, 8)
    if not (2 <= lba < 1 << 48 and first <= last < 1 << 48):
        raise ValueError(f"GPT entries at LBA {lba}, usable are {first} to {last}")
    return Header(lba * sector_size, count, entry_size, first, last)


def entries(table: Header, data: bytes) -> list[Entry]:
    """Of the `count * entry_size` bytes at `offset`; unused ones are left out."""
    if len(data) < table.count * table.entry_size:
        raise ValueError("the disk ends before its GPT entries do")
    result = []
    for index in range(table.count):
        raw = data[index * table.entry_size : (index + 1) * table.entry_size]
        if raw[:16] == _UNUSED:
            continue
        first = _number(raw, 32, 8)
        last = _number(raw, 40, 8)
        # As the kernel: such an entry makes no partition, but is no reason to lose the others.
        if table.first_usable <= first <= last <= table.last_usable:
            kind, attributes = guid(raw[:16]), _number(raw, 48, 8)
            result.append(Entry(index + 1, guid(raw[16:32]), first, kind, attributes))
    return result


def mbr(data: bytes) -> list[Entry]:
    """Primary partitions of an MBR disk; their UUID is the kernel's `<disk signature>-<number>`."""
    signature = _number(data, 440, 4)
    return [
        Entry(index, f"{signature:08x}-{index:02x}", first)
        for index, kind, first, size in _mbr_entries(data)
        if kind and size
    ]


def logical(data: bytes, read: "Callable[[int], bytes]") -> list[Entry]:
    """Logical partitions of an MBR disk, numbered as parse_extended() of the kernel does.

    Each extended partition begins a chain of EBRs, that is of sectors like an MBR, which have a
    partition and the place of the next one. `read` gives the sector of that number, or less.
    """
    signature = _number(data, 440, 4)
    result: list[Entry] = []
    seen: set[int] = set()
    for _, kind, start, size in _mbr_entries(data):
        if kind not in _EXTENDED:
            continue
        here, length = start, size
        while length:
            if here in seen or len(seen) == EBRS_MAX:
                raise ValueError(f"the chain of extended partitions has no end (sector {here})")
            seen.add(here)
            slots = [slot for slot in _mbr_entries(read(here)) if slot[3]]
            for number, inner, first, count in slots:
                # The last two are garbage at times; who counts them counts otherwise than the
                # kernel.
                inside = first + count <= length and here + first + count <= start + size
                if inner not in _EXTENDED and (number <= 2 or inside):
                    index = 5 + len(result)
                    result.append(Entry(index, f"{signature:08x}-{index:02x}", here + first))
            following = [slot for slot in slots if slot[1] in _EXTENDED]
            _, _, first, length = following[0] if following else (0, 0, 0, 0)
            here = start + first
    return result


def _mbr_entries(data: bytes) -> list[tuple[int, int, int, int]]:
    """(number, type, first sector, sectors) of the four slots, or nothing without the 55 AA."""
    if data[510:512] != b"\x55\xaa":
        return []
    result = []
    for index in range(4):
        raw = data[446 + 16 * index : 462 + 16 * index]
        result.append((index + 1, raw[4], _number(raw, 8, 4), _number(raw, 12, 4)))
    return result


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
