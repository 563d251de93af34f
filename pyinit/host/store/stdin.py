# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A layer or a text on standard input: its first bytes tell which."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyinit.host.failure import system_failure
from pyinit.host.store.layers import BLOCK, Part, begins_tar

NAME = "-"
_FD = 0
_PIECE = 1 << 20


class Input:
    """What comes there. SystemFailure: it cannot be read."""

    def __init__(self) -> None:
        self._start = self._read(BLOCK)
        self.is_tar = begins_tar(self._start)

    @contextmanager
    def layers(self) -> Iterator[Sequence[Part]]:
        """It as a layer."""
        yield [Part(_FD, NAME, self._start)]

    def text(self, limit: int) -> bytes:
        """It as a text, and no more than `limit`."""
        return self._start + self._read(max(0, limit - len(self._start)))

    def _read(self, size: int) -> bytes:
        pieces = []
        try:
            while size and (piece := os.read(_FD, min(size, _PIECE))):
                pieces.append(piece)
                size -= len(piece)
        except OSError as error:
            raise system_failure(error, NAME) from None
        return b"".join(pieces)
