# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A guest while it runs: what its console shows, whether it came to its program, and its limits."""

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# A machine is measured anew when a limit is hit; less than this is no other machine.
_SLOWER = 1.05
# QEMU has closed its output: it is about to end.
_EXIT_SECONDS = 300


class Pace(Protocol):
    """How slow this machine is: 1 and more, what limits are multiplied with."""

    def scale(self) -> float:
        """As measured in this run."""

    def again(self) -> float:
        """As measured now."""


@dataclass(frozen=True)
class Limits:
    """Seconds on an idle machine."""

    early: float
    """Until the guest's program begins: firmware, kernel, unpacking of the initrd."""
    program: float
    """From there on."""


@dataclass(frozen=True)
class Ending:
    """How a guest went."""

    text: str
    """Its console, and what QEMU itself said."""
    came: bool
    """It came to its program. From there on all that it does is a verdict."""
    timed_out: bool
    code: int | None
    """QEMU's exit code; None: it was ended."""
    seconds: float
    """Of the program, where it came to it; else of the whole."""


def watch(
    command: Sequence[str],
    pace: Pace,
    limits: Limits,
    *,
    begun: str,
    until: str | None = None,
    log: Path | None = None,
) -> Ending:
    """Runs QEMU to its end, to `until` on the console, or to a limit.

    `begun`: a regular expression for the console that says that the program has begun; `until`
    says so too. A limit that is hit is looked at again: on a machine that has become slower the
    guest gets the rest of what it has there.
    """
    first, last = re.compile(begun, re.MULTILINE), re.compile(until) if until else None
    text, came, timed_out, code = "", False, False, None
    allowed, scale = limits.early, pace.scale()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else None
        qemu = stack.enter_context(
            subprocess.Popen(
                [*dies_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        stack.callback(qemu.kill)
        assert qemu.stdout
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(qemu.stdout, selectors.EVENT_READ)
        while True:
            left = started + allowed * scale - time.monotonic()
            if left <= 0 and qemu.poll() is None:
                slower = pace.again()
                if slower <= scale * _SLOWER:
                    timed_out = True
                    break
                scale = slower
                continue
            if not selector.select(max(left, 0)):
                continue
            chunk = os.read(qemu.stdout.fileno(), 1 << 16)
            if out:
                out.write(chunk)
                out.flush()
            if not chunk:
                code = qemu.wait(timeout=_EXIT_SECONDS)
                break
            text += chunk.decode(errors="replace")
            ends = bool(last and last.search(text))
            if not came and (ends or first.search(text)):
                came, allowed, started = True, limits.program, time.monotonic()
            if ends:
                break
    return Ending(text, came, timed_out, code, time.monotonic() - started)


def dies_with_us() -> list[str]:
    """Before a command: a killed test run must not leave machines behind."""
    return ["setpriv", "--pdeathsig", "KILL", "--"]
