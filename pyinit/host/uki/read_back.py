# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A sealed UKI, read back before it gets its name: what should change has, and nothing else.

The file is mapped and not read: what it is compared with fills the memory, since an initrd has
400 MB. Nobody else knows the file's name yet, so nobody cuts it meanwhile.
"""

from __future__ import annotations

import _cfs
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pyinit.host.uki.pe_write import Piece
from pyinit.host.uki.read import Uki, find_carried
from pyinit.initrd.source.payload import SECTION

_CHUNK = 1 << 20
_BUILT = "a UKI that ukify built with what `cfs-uki payload` writes"
_Row = tuple[bytes, int, int, int, int, int]  # of pe_parse(): name, VirtualSize, …, size, offset


def check(before: Uki, written: Path, initrd: Sequence[Piece], data: bytes) -> None:
    """Refused: `written` has other sections than `before` and `.cfsdig`, or other contents.

    `initrd` is what the initrd has to be, with the archive of the carried copy. `data` is the
    content of `.cfsdig`, and of that copy.
    """
    kept = [each for each in enumerate(before.sections) if each[1].name != SECTION]
    names = [*(section.name for _, section in kept), SECTION]
    contents = [
        initrd if section.name == ".initrd" else [before.view(index)] for index, section in kept
    ]
    with (
        open(written, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        try:
            rows = _cfs.pe_parse(file.fileno())[1]
            initrd_row = rows[_cfs.pe_find(file.fileno(), ".initrd", _cfs.PE_BASE)]
        except OSError as error:
            raise before.refused(f"no UKI when read back ({error.strerror})", _BUILT) from None
        if [row[0].rstrip(b"\0").decode("ascii", "backslashreplace") for row in rows] != names:
            raise before.refused("other sections when read back", " ".join(names))
        for name, row, pieces in zip(names, rows, [*contents, [data]], strict=True):
            if not _has(file, row, pieces):
                raise before.refused(f"section {name} differs when read back", "what was written")
        # As the kernel does: a broken archive before ours may take it for its own data.
        copies = find_carried(mapped, initrd_row[4], initrd_row[4] + initrd_row[1])
    if [copy.data for copy in copies] != [data]:
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
