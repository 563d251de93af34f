# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Threads of the interpreter. The engine's own are in csrc/host/pool.h."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from pyinit.initrd.report.errors import SystemFailure


class Threads(ThreadPoolExecutor):
    """A pool that says so where no thread can be started. `place`: what messages name then."""

    def __init__(self, most: int, place: os.PathLike[str]) -> None:
        super().__init__(most)
        self._place = place

    def _adjust_thread_count(self) -> None:
        """What submit() calls when the work is queued. SystemFailure: there is no thread to do it;
        where there are some, but no more, these do it."""
        try:
            super()._adjust_thread_count()
        except RuntimeError:  # the interpreter has lost why
            if not self._threads:
                place = os.fspath(self._place)
                raise SystemFailure("store", place, "no thread can be started") from None
