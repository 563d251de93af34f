# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How a command shows its progress on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyinit.host.commands.command import complain

# Called with what is done: objects and bytes, or objects and of how many.
Progress = Callable[[int, int], None]


@contextmanager
def rates(name: str, what: str, *, quiet: bool) -> Iterator[Progress]:
    """How many objects and bytes are done, as soon as that takes over a second. `name`: of the
    command; `what`: a word for the work."""
    if quiet:
        yield lambda _, __: None
        return
    if not sys.stderr.isatty():
        yield _Rates(name, what)
        return
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, desc=what, delay=1, leave=False) as bar:
        started = time.monotonic()

        def show(objects: int, size: int) -> None:
            rate = objects / max(time.monotonic() - started, 1e-9)
            bar.set_postfix_str(f"{objects} objects, {rate:.0f}/s", refresh=False)
            bar.update(size - bar.n)

        yield show


class _Rates:
    """A line after a second, then after twice as long each time."""

    def __init__(self, name: str, what: str) -> None:
        self._name = name
        self._what = what
        self._started = time.monotonic()
        self._next = 1.0

    def __call__(self, objects: int, size: int) -> None:
        seconds = time.monotonic() - self._started
        if seconds < self._next:
            return
        self._next = 2 * seconds
        complain(
            self._name,
            f"{self._what}: {objects} objects ({objects / seconds:.0f}/s), "
            f"{size / 1e6:.0f} MB ({size / seconds / 1e6:.0f} MB/s)",
        )


@contextmanager
def tenths(name: str, what: str, *, quiet: bool) -> Iterator[Progress]:
    """How many of all objects are done: a line for each tenth where there is no terminal.
    `name` and `what`: as of rates()."""
    if quiet:
        yield lambda _, __: None
        return
    if not sys.stderr.isatty():
        yield _Tenths(name, what)
        return
    from tqdm import tqdm

    with tqdm(unit="object", desc=what) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class _Tenths:
    def __init__(self, name: str, what: str) -> None:
        self._name = name
        self._what = what
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        tenths = 10 * done // total
        if tenths > self._told:
            self._told = tenths
            complain(self._name, f"{self._what}: {done} of {total}")
