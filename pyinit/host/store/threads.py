# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Threads of the interpreter. The engine's own are in csrc/host/pool.h."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pyinit.initrd.report.errors import SystemFailure

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class Threads(ThreadPoolExecutor):
    """A pool that says so where no thread can be started. `place`: what messages name then."""

    def __init__(self, most: int, place: os.PathLike[str]) -> None:
        super().__init__(most)
        self._place = place

    def submit(
        self,
        function: Callable[_Arguments, _Value],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> Future[_Value]:
        """As of any pool. SystemFailure: there can be no thread for it; it may be done by one that
        is there, so that whoever gives up leaves the pool first."""
        try:
            return super().submit(function, *args, **kwargs)
        except RuntimeError:  # the interpreter has lost why
            place = os.fspath(self._place)
            raise SystemFailure("store", place, "no thread can be started") from None
