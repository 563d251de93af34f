# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the other binary formats: image header, EFI variables, partition tables, superblocks
of file systems, answers of a TPM, and what is hashed for one."""

import struct
from itertools import product

from fuzz.harness.superblock import LATER, START
from tests.initrd.partition_tables import ESP, Row, mbr
from tests.initrd.partition_tables import gpt as gpt_table

_COMPOSEFS = 0xD078629A
_EROFS = 0xE0F5E1E2
_OWN = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeee00%02x"


def image() -> list[bytes]:
    """Each field of both headers at its edges, and files too short."""
    edges = (0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF)
    found = [_header(bits=bits) for bits in range(32)]
    found += [
        _header(bits=bits, blocks=0xFFFFFFFF)
        for bits in (8, 9, 10, 12, 15, 16, 17, 32, 64, 128, 255)
    ]
    found += [
        _header(magic=magic, erofs=erofs)
        for magic, erofs in product(
            (0, _COMPOSEFS, _EROFS, _COMPOSEFS ^ 1), (0, _EROFS, _EROFS ^ 1)
        )
    ]
    for name in ("version", "flags", "form", "blocks"):
        found += [_header(**{name: value}) for value in edges]
    found += [
        _header(flags=flags, form=form) for flags, form in product((0, 1, 2, 3), (0, 1, 2, 3))
    ]
    found += [_header(magic=0, flags=1, version=9, blocks=2**shift) for shift in range(0, 32, 4)]
    good = _header()
    found += [good[:size] for size in (0, 1, 4, 16, 1023, 1024, 1028, 1064, 1151)]
    return [*found, good + b"x", good + bytes(512), bytes(1152), b"\xff" * 1152]


def _header(
    *, magic: int = _COMPOSEFS, version: int = 1, flags: int = 0, form: int = 0,
    erofs: int = _EROFS, bits: int = 12, blocks: int = 4,
) -> bytes:  # fmt: skip
    data = bytearray(1152)
    struct.pack_into("<IIII", data, 0, magic, version, flags, form)
    struct.pack_into("<I", data, 1024, erofs)
    data[1024 + 12] = bits
    struct.pack_into("<I", data, 1024 + 36, blocks)
    return bytes(data)


def sha() -> list[bytes]:
    """Lengths around the ends of blocks of 64 and 128 bytes."""
    sizes = (*range(132), 239, 240, 247, 248, 255, 256, 500)
    return [(bytes(range(256)) * 2)[:size] for size in sizes]


def merkle() -> list[bytes]:
    """Sizes around the ends of blocks and of levels, by each algorithm and by none; what is cut."""
    sizes = [
        blocks * 4096 + more
        for blocks in (0, 1, 2, 63, 64, 65, 127, 128, 129)
        for more in (-1, 0, 1)
    ]
    heads = [
        bytes([algorithm]) + size.to_bytes(3, "little")
        for algorithm in (0, 1, 2, 3)
        for size in sizes
        if size >= 0
    ]
    return [b"", b"\1", *heads, *(head + b"content" for head in heads[:60:7])]


def tpm_message() -> list[bytes]:
    """Answers to both questions: right, with each part wrong, and cut. Before them, the PCR."""
    everything = b"\xff\xff\xff"
    lists: tuple[tuple[tuple[int, bytes], ...], ...] = (
        (), ((4, everything),), ((0xB, everything),), ((4, everything), (0xB, everything)),
        ((0xB, everything), (0xC, everything), (0xD, everything)), ((0xB, b"\0\x80\0"),),
        ((0xB, b""),), ((0xB, everything), (0x12, everything)), ((0xB, everything),) * 2,
    )  # fmt: skip
    found = []
    for banks in lists:
        body = struct.pack(">BII", 0, 5, len(banks))
        for number, selected in banks:
            body += struct.pack(">HB", number, len(selected)) + selected
        found.append(_tpm_answer(0x8001, body))
    good = found[3]
    found += [good[:size] for size in range(len(good))]
    found += [_tpm_answer(0x8001, struct.pack(">BII", *values)) for values in (
        (1, 5, 0), (0, 6, 0), (0, 5, 0xFFFFFFFF), (0, 5, 1),
    )]  # fmt: skip
    found += [_tpm_answer(0x8001, b"", code) for code in (0x100, 0x101, 0x907, 0x921, 0x922, 1)]
    done = _tpm_answer(0x8002, bytes(6) + b"\1\0\0")
    found += [done, done[:-1], done + b"\0", _tpm_answer(0x8002, b"\0\0\0\1" + bytes(5))]
    found += [_tpm_answer(0x8002, bytes(9), 0x921), _tpm_answer(0x8001, bytes(9)), good + b"\0"]
    found.append(_tpm_answer(0x8001, struct.pack(">BII", 0, 5, 0) + b"\0"))
    return [
        b"",
        *(bytes([pcr]) + answer for pcr in (7, 0) for answer in found),
        *(b"\1" + answer for answer in found[:9]),
    ]


def _tpm_answer(tag: int, body: bytes, code: int = 0) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def efivar() -> list[bytes]:
    """Paths, UUIDs and flags as firmware and stub write them; cut, and of other attributes."""
    texts = (
        "", "a", r"\EFI\BOOT\BOOTX64.EFI", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0", "é",
        "\uffff", "\U0001f600", "a\U0010ffffb", "\ud7ff\ue000", "x" * 100, "@0",
    )  # fmt: skip
    found = []
    for text in texts:
        raw = text.encode("utf-16-le")
        found += [_variable(value) for value in (raw + b"\0\0", raw, raw + b"\0", raw + b"\0" * 4)]
    for units in (
        (0xD800,), (0xDC00,), (0xD800, 0xD800), (0xD800, 0x41), (0xDC00, 0xD800), (0xDBFF, 0xDFFF),
        (0x41, 0, 0x42), (0xD800, 0), (0xD83D, 0xDE00, 0xDE00), (0xFEFF, 0x41), (0xFFFE, 0x4100),
    ):  # fmt: skip
        found.append(_variable(struct.pack(f"<{len(units) + 1}H", *units, 0)))
        found.append(_variable(struct.pack(f"<{len(units)}H", *units)))
    flags = [bytes([value]) for value in (0, 1, 2, 0x30, 0x31, 255)] + [b"\0\0", b"\1\0\0\0"]
    found += [_variable(value) for value in flags]
    for attributes in (0, 1, 2, 4, 7, 0x17, 0x27, 0x80000006, 0xFFFFFFFF):
        found += [_variable(b"A\0\0\0", attributes), _variable(b"\1", attributes)]
    good = _variable(b"A\0B\0\0\0")
    return [*found, *(good[:size] for size in range(len(good)))]


def _variable(value: bytes, attributes: int = 6) -> bytes:
    return attributes.to_bytes(4, "little") + value


def gpt() -> list[bytes]:
    """Tables of both sector sizes and of DOS; header and entry fields at their edges."""
    found = [_disk(_table(rows)) for rows in range(9)]
    found += [_disk(bytes(gpt_table([_row(1)], sector=4096, count=2)), 4096)]
    found += [_disk(_table(2, count, size)) for count in (0, 2, 5, 16) for size in (128, 256, 512)]
    good = _table(3)
    header = {
        0: (8, (0, 0x5452415020494645, 2**64 - 1)),
        8: (4, (0, 0x10000, 0x10001, 0x20000)),
        12: (4, (0, 91, 92, 512, 513, 0xFFFFFFFF)),
        24: (8, (0, 2, 2**64 - 1)),
        40: (8, (0, 34, 9000, 9001, 2**48, 2**64 - 1)),
        48: (8, (0, 6, 5, 2**48 - 1, 2**48)),
        72: (8, (0, 1, 2, 3, 100, 2**48 - 1, 2**48, 2**64 - 1)),
        80: (4, (0, 1, 3, 4, 5, 256, 257, 0xFFFFFFFF)),
        84: (4, (0, 120, 127, 128, 129, 136, 512, 520, 0xFFFFFFFF)),
    }
    for at, (width, values) in header.items():
        found += [_disk(_with(good, 512 + at, width, value)) for value in values]
    for at in (0, 16, 32, 40, 48):
        for value in (0, 6, 5, 9000, 9001, 2**64 - 1):
            found.append(_disk(_with(good, 1024 + 128 + at, 8, value)))
    rows = [(0x83, 2048, 100), (0xEF, 4096, 0xFFFFFFFF), (5, 9, 0), (0, 1, 1), (0xEE, 1, 9)]
    for first in range(5):
        found.append(_disk(mbr(rows[first:][:4], signature=0xDEADBEEF)))
    found.append(_disk(mbr([(0x83, 0xFFFFFFFF, 0xFFFFFFFF)] * 4, signature=0xFFFFFFFF)))
    for chain in (
        {0: [(0x83, 1, 1), (5, 2, 20)], 2: [(0x83, 1, 2), (5, 4, 6)], 6: [(0x83, 1, 3)]},
        {0: [(0x0F, 2, 20)], 2: [(5, 4, 6)], 6: [(0x83, 1, 3), (0x85, 0, 4)]},
        {0: [(0x85, 2, 20)], 2: [(0x83, 1, 1), (0x83, 2, 1), (0x83, 3, 1), (0x83, 4, 99)]},
        {0: [(5, 2, 20), (5, 8, 9)], 2: [(0x83, 1, 1), (5, 6, 1)], 8: [(0x83, 1, 1), (0, 3, 3)]},
        {0: [(5, 2, 20)]},
        {0: [(5, 2, 0)], 2: [(0x83, 1, 1)]},
    ):
        found += [_disk(_chain(chain, size), size) for size in (512, 4096)]
    cuts = (0, 1, 100, 510, 511, 512, 603, 604, 1023, 1024, 1151, 1400, len(good) - 1)
    found += [_disk(good[:size]) for size in cuts]
    return [*found, b"", _disk(good, 4096), _disk(_with(good, 510, 2, 0x55AA))]


def _chain(sectors: dict[int, list[tuple[int, int, int]]], size: int) -> bytes:
    """An MBR at sector 0, and EBRs."""
    disk = bytearray(size * (max(sectors) + 1))
    for number, rows in sectors.items():
        disk[number * size : number * size + 512] = mbr(rows, signature=0xDEADBEEF)
    return bytes(disk[: 16384 - 1])


def _row(number: int) -> Row:
    return number, ESP, _OWN % number, 10 * number, 10 * number + 9


def _table(rows: int, count: int = 8, size: int = 128) -> bytes:
    return bytes(gpt_table([_row(n + 1) for n in range(min(rows, count))], count=count, size=size))


def _with(table: bytes, at: int, width: int, value: int) -> bytes:
    return table[:at] + value.to_bytes(width, "little") + table[at + width :]


def _disk(data: bytes, sector: int = 512) -> bytes:
    """What the harness takes."""
    return bytes([sector == 4096]) + data


def superblock() -> list[bytes]:
    """Each format alone and with each other; labels of all widths; devices that end early."""
    uuid = bytes(range(0xA0, 0xB0))
    fat32 = ((510, b"\x55\xaa"), (0x52, b"FAT32   "), (0x42, b")\1\2\3\4"))
    fat16 = ((510, b"\x55\xaa"), (0x36, b"FAT16   "), (0x26, b")\5\6\7\x08"))
    formats = {
        "ext4": ((0x438, b"\x53\xef"), (0x468, uuid)),
        "xfs": ((0, b"XFSB"), (32, uuid)),
        "btrfs": ((LATER + 0x40, b"_BHRfS_M"), (LATER + 0x20, uuid)),
        "f2fs": ((0x400, b"\x10\x20\xf5\xf2"), (0x46C, uuid)),
        "fat32": fat32,
        "fat16": fat16,
    }
    labels = {
        "ext4": (0x478, 16), "xfs": (108, 12), "btrfs": (LATER + 0x12B, 256), "f2fs": (0x47C, 1024),
        "fat32": (0x47, 11), "fat16": (0x2B, 11),
    }  # fmt: skip
    found = [_device(*parts) for parts in formats.values()]
    found += [_device(*one, *other) for one, other in product(formats.values(), repeat=2)]
    for name, (at, width) in labels.items():
        for text in (
            b"a",
            b"x" * width,
            b"\xff" * width,
            b"a\0b",
            b"NO NAME    ",
            b" b ",
            b"\xc3\xa9",
        ):
            found.append(_device(*formats[name], (at, text[:width])))
    for wide in ("", "é", "wörld", "\uffff", "\U0001f600", "x" * 512, "a\0b"):
        found.append(_device(*formats["f2fs"], (0x47C, wide.encode("utf-16-le")[:1024])))
    for units in ((0xD800,), (0xDC00,), (0xD800, 0x41), (0xD83D, 0xDE00), (0x41, 0xD800, 0xD800)):
        raw = struct.pack(f"<{len(units)}H", *units)
        found.append(_device(*formats["f2fs"], (0x47C, raw)))
    found.append(_device(*formats["f2fs"], (0x47C, b"\x41\xd8" * 512)))
    found += [
        _device(*formats[name], (at, bytes(16))) for name, at in (("ext4", 0x468), ("xfs", 32))
    ]
    found += [_device(*fat32[:2], (0x42, b"\x28")), _device(*fat32[1:])]
    cuts = (0, 1, 2, 510, 512, 1024, 0x439, 0x43A, 0x46B, 0x46D, 0x470, 0x478, 0x479, 0x47D, 0x47F)
    whole = _device(*formats["ext4"], *formats["f2fs"])
    cuts = (0, 1, 2, 510, 512, 1024, 0x439, 0x43A, 0x46B, 0x46D, 0x470, 0x478, 0x479, 0x47D, 0x47F)
    found += [whole[:size] for size in cuts]
    later = _device(*formats["btrfs"], (LATER + 0x12B, b"x" * 256))
    found += [later[: START + size] for size in (0, 0x2F, 0x47, 0x48, 0x12B, 0x1FF)]
    # num_devices, and the number of this one
    for of, devid in ((0, 0), (1, 1), (2, 2), (2, 3), (1 << 63, 2**64 - 1)):
        numbers = ((LATER + 0x88, of), (LATER + 0xC9, devid))
        parts = [(at, value.to_bytes(8, "little")) for at, value in numbers]
        found.append(_device(*formats["btrfs"], *parts))
    numbered = found[-1]
    return [*found, *(numbered[: START + size] for size in (0x88, 0x8F, 0xC9, 0xD0))]


def _device(*parts: tuple[int, bytes]) -> bytes:
    """What the harness takes."""
    data = bytearray(START + 0x22B)
    for at, content in parts:
        place = at - LATER + START if at >= LATER else at
        data[place : place + len(content)] = content
    return bytes(data[: START + 0x22B]) if any(data[START:]) else bytes(data[:START])
