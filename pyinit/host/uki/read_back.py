# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A sealed UKI, read back before it gets its name: what should change has, and nothing else.

The file is read in pieces. What it is compared with fills the memory: an initrd has 400 MB.
"""

from __future__ import annotations

import _cfs
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pyinit.host.uki.pe_write import Piece
from pyinit.host.uki.read import Uki, find_carried
from pyinit.initrd.source.payload import SECTION

_CHUNK = 1 << 20
_Row = tuple[bytes, int, int, int, int, int]  # of pe_parse(): name, VirtualSize, …, size, offset


def check(before: Uki, written: Path, initrd: Sequence[Piece], data: bytes) -> None:
    """Refused: `written` has other sections than `before` and `.cfsdig`, or other contents.

    `initrd` is what the initrd has to be. Its last piece is the archive with the carried copy.
    `data`: the content of `.cfsdig`, and of that copy.
    """
    kept = [each for each in enumerate(before.sections) if each[1].name != SECTION]
    names = [*(section.name for _, section in kept), SECTION]
    contents = [
        initrd if section.name == ".initrd" else [before.view(index)] for index, section in kept
    ]
    with open(written, "rb") as file:
        rows = _cfs.pe_parse(file.fileno())[1]
        if [row[0].rstrip(b"\0").decode("ascii", "backslashreplace") for row in rows] != names:
            raise before.refused("other sections when read back", " ".join(names))
        for name, row, pieces in zip(names, rows, [*contents, [data]], strict=True):
            if not _has(file, row, pieces):
                raise before.refused(f"section {name} differs when read back", "what was written")
        # As a reader finds it. The pieces before the archive have no copy: seal() has looked.
        row = rows[_cfs.pe_find(file.fileno(), ".initrd", _cfs.PE_BASE)]
        size = len(initrd[-1])
        file.seek(row[4] + row[1] - size)
        copies = find_carried(file.read(size), 0, size)
    if [(copy.data, copy.start) for copy in copies] != [(data, 0)]:
        raise before.refused("another carried copy when read back", "what was written")


def _has(file: BinaryIO, row: _Row, pieces: Sequence[Piece]) -> bool:
    """Are the pieces, one behind the other, the whole content of that section?"""
    file.seek(row[4])
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _CHUNK):
            wanted = view[start : start + _CHUNK]
            if file.read(len(wanted)) != wanted:
                return False
    return min(row[1], row[3]) == sum(len(piece) for piece in pieces)
