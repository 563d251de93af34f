# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the person in front of `make demo` sees."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROL = re.compile(r"\x1b\[[0-9;?!]*[A-Za-z]")
_START = time.monotonic()


class Failed(Exception):
    """Something went another way than it must; the message says what."""


def say(text: str) -> None:
    """One line, with the seconds since the start."""
    print(f"demo: [{time.monotonic() - _START:6.1f} s] {text}", flush=True)


def show(text: str) -> None:
    """What a guest or a command said, set off from our own words, without control sequences."""
    for line in _CONTROL.sub("", text).splitlines():
        print("    " + "".join(c for c in line if c.isprintable() or c == "\t"), flush=True)


def show_failure(failure: Exception) -> None:
    """Its first line comes last, where it is seen; before it what the guest said."""
    reason, _, details = str(failure).partition("\n")
    show(details)
    say(f"FAILED: {reason}")


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says `text`, and the seconds it took."""
    say(f"{text} ...")
    started = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")
