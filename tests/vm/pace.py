# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How slow this machine is, measured by a guest that does nothing but begin.

Limits are written for a machine that is idle. The measurement is kept in a file for all workers
of a run, and is made again when it is old, or when a guest hits a limit.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from .once import locked

# What the guest takes on two idle cores without hardware virtualization.
IDLE_SECONDS = 5.0
# A guest that hangs has to end: no machine is given more than that.
MOST = 10.0
_RUN_SECONDS = 900
_NOW_SECONDS = 60


class Measured:
    """The pace by `measure`, which says how many seconds the guest took; kept in `file`."""

    def __init__(self, file: Path, measure: Callable[[], float]) -> None:
        self._file = file
        self._measure = measure

    def scale(self) -> float:
        """What limits are multiplied with: 1 to MOST."""
        return self._scale(_RUN_SECONDS)

    def again(self) -> float:
        """The same, of the last minute."""
        return self._scale(_NOW_SECONDS)

    def _scale(self, age: float) -> float:
        with locked(self._file.with_name(f".{self._file.name}.lock")):
            seconds = self._kept(age)
            if seconds is None:
                seconds = self._measure()
                self._file.write_text(json.dumps([_boot_id(), time.monotonic(), seconds]))
        return min(max(seconds / IDLE_SECONDS, 1.0), MOST)

    def _kept(self, age: float) -> float | None:
        try:
            boot, at, seconds = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        fresh = boot == _boot_id() and 0 <= time.monotonic() - at < age
        return float(seconds) if fresh else None


class Steady:
    """Of who measures: limits are what they are."""

    def scale(self) -> float:
        """Once."""
        return 1.0

    def again(self) -> float:
        """No more."""
        return 1.0


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
