# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the person in front of `make demo` sees."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_START = time.monotonic()


class Failed(Exception):
    """Something went another way than it must; the message says what."""


def say(text: str) -> None:
    """One line, with the seconds since the start."""
    print(f"demo: [{time.monotonic() - _START:6.1f} s] {text}", flush=True)


def show(text: str) -> None:
    """What a guest or a command said, set off from our own words."""
    for line in text.splitlines():
        print(f"    {line}", flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says `text`, and the seconds it took."""
    say(f"{text} ...")
    started = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")
