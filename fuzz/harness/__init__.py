# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One module for each parser: `check(data)` raises where a promise is broken.

A promise: what is wrong is said by the declared exception and no other, what is read can be
written again where there is a format(), and time is bounded.
"""

import importlib
import time
from collections.abc import Callable

SECONDS = 2.0
"""Of processor time for one input; the slowest of 4 KiB take a hundredth of it."""


def load(name: str) -> Callable[[bytes], None]:
    """The check of a parser, with its time bounded."""
    check: Callable[[bytes], None] = importlib.import_module(f"fuzz.harness.{name}").check

    def timed(data: bytes) -> None:
        start = time.process_time()
        check(data)
        spent = time.process_time() - start
        assert spent < SECONDS, f"{spent:.1f} s for {len(data)} bytes"

    return timed
