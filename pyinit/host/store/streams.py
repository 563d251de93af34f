# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Split streams of composefs-rs: which objects and which other streams one needs.

A container image is kept as some of them: manifest, configuration and layers, each an object that
names others. Format: composefs-rs, doc/splitstream.md. The names that a stream gives to its
references are packed and are not read: all of the references count.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pyinit.initrd.root.digest import ALGORITHMS

MAGIC = b"SplitStream"
HEADER_SIZE = 32
# magic, version, flags, algorithm, log2 of the block size, start and end of the part with the rest
_HEADER = struct.Struct("<11sBHBBQQ")
# What bootc up to 1.15 writes: the same fields in the order that its compiler gave them.
_OLD_HEADER = struct.Struct("<QQH11sBBB")
_INFO = struct.Struct("<8Q")  # start and end of: references to streams, to objects, data, names
_BLOCK_LOG = 12
_SIZES = {1: 32, 2: 64}


class References(NamedTuple):
    """Raw digests of `size` bytes, one behind the other."""

    size: int
    streams: bytes
    objects: bytes


def is_stream(start: bytes) -> bool:
    """Does a file begin as one? `start`: HEADER_SIZE bytes of it."""
    return start[:11] == MAGIC or start[18:29] == MAGIC


def references(data: bytes) -> References:
    """ValueError: the rule that is broken."""
    if len(data) < HEADER_SIZE:
        raise ValueError("shorter than its header")
    if data[:11] == MAGIC:
        _, version, _, algorithm, log, start, end = _HEADER.unpack_from(data)
    else:
        start, end, _, magic, version, algorithm, log = _OLD_HEADER.unpack_from(data)
        if magic != MAGIC:
            raise ValueError("no split stream")
    if version != 0 or algorithm not in ALGORITHMS or log != _BLOCK_LOG:
        raise ValueError(f"version {version}, algorithm {algorithm}, blocks of 2^{log} bytes")
    info = _part(data, start, end)
    if len(info) < _INFO.size:
        raise ValueError("its table is too short")
    ranges = _INFO.unpack_from(info)
    size = _SIZES[algorithm]
    found = [_part(data, *ranges[:2]), _part(data, *ranges[2:4])]
    if any(len(part) % size for part in found):
        raise ValueError("a list of references with a part of one")
    return References(size, *found)


def _part(data: bytes, start: int, end: int) -> bytes:
    if not start <= end <= len(data):
        raise ValueError("a part that is not in the file")
    return data[start:end]
