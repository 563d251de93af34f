# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a split stream refers to, and what is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.store.streams import HEADER_SIZE, MAGIC, is_stream, references


def stream(
    streams: bytes,
    objects: bytes,
    *,
    algorithm: int = 1,
    version: int = 0,
    log: int = 12,
    old: bool = False,
) -> bytes:
    """As composefs-rs writes it: header, table, and the parts behind it."""
    parts = [streams, objects, b"packed data", b"packed names"]
    offset = HEADER_SIZE + 80
    ranges = []
    for part in parts:
        ranges += [offset, offset + len(part)]
        offset += len(part)
    info = struct.pack("<10Q", *ranges, 7, 7)
    where = (HEADER_SIZE, HEADER_SIZE + len(info))
    if old:
        header = struct.pack("<QQH11sBBB", *where, 0, MAGIC, version, algorithm, log)
    else:
        header = struct.pack("<11sBHBBQQ", MAGIC, version, 0, algorithm, log, *where)
    return header + info + b"".join(parts)


@given(
    streams=st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    objects=st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    old=st.booleans(),
    wide=st.booleans(),
)
def test_references(streams: list[bytes], objects: list[bytes], old: bool, wide: bool) -> None:
    size = 64 if wide else 32
    one, two = (b"".join(part * (1 + wide) for part in parts) for parts in (streams, objects))
    data = stream(one, two, algorithm=1 + wide, old=old)
    assert is_stream(data[:HEADER_SIZE])
    assert references(data) == (size, one, two)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for start in (b"", MAGIC, bytes(18) + MAGIC):
        try:
            found = references(start + data)
        except ValueError:
            continue
        assert not len(found.streams) % found.size


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"SplitStream", "shorter than its header"),
        (bytes(64), "no split stream"),
        (stream(b"", b"", version=1), "version 1"),
        (stream(b"", b"", algorithm=3), "algorithm 3"),
        (stream(b"", b"", log=16), "blocks of 2^16 bytes"),
        (stream(b"x", b""), "a part of one"),
        (stream(b"", bytes(33)), "a part of one"),
        (stream(b"", bytes(64))[:150], "a part that is not in the file"),
        (stream(b"", b"")[:HEADER_SIZE], "a part that is not in the file"),
        (stream(b"", b"").replace(struct.pack("<Q", 112), struct.pack("<Q", 40)), "too short"),
        (
            stream(b"", b"").replace(struct.pack("<Q", 32), bytes(8)[:7] + b"\x80"),
            "not in the file",
        ),
    ],
)
def test_what_is_none(data: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("^", r"\^")):
        references(data)
