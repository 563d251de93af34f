# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Copies get their names in a store, when they are whole and durable."""

from __future__ import annotations

import _cfshost
import errno
import itertools
import os
from collections import deque
from contextlib import suppress

from pyinit.host.atomic import procfs
from pyinit.host.store.check import cores
from pyinit.host.store.threads import Task, Threads
from pyinit.initrd.report.errors import SystemFailure, os_error
from pyinit.initrd.root.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyinit.host.store.layout import Store

    class Target(Protocol):
        """Where names are given: what an Adder has for that."""

        store: Store

        def prepare(self, directory: int, copies: list[Copy]) -> tuple[list[Copy], list[Digest]]:
            """Brings copies to the disk."""

        def make_fan(self, directory: int, name: str) -> None:
            """Makes a directory of objects."""

        def check_present(self, directory: int, digests: list[Digest]) -> None:
            """Looks at objects whose names were others'."""


class Copy:
    """A copy of a file, complete and without its name in the store. There may be millions.

    `fd`: open, or -1 of one that has only a temporary name. `temporary`: that, below the directory
    of objects; empty: it has none. `source`: for messages.
    """

    __slots__ = ("algorithm", "fd", "name", "source", "temporary")

    def __init__(self, fd: int, temporary: str, source: str, algorithm: int, raw: bytes) -> None:
        self.fd = fd
        self.temporary = temporary
        self.source = source
        self.algorithm = algorithm
        digits = raw.hex()
        self.name = f"{digits[:2]}/{digits[2:]}"

    @property
    def digest(self) -> Digest:
        """Of its content."""
        return Digest(self.algorithm, bytes.fromhex(self.name.replace("/", "")))


class Naming:
    """A batch of copies is brought to the disk beside, while the next one is read. All get their
    names in the end. Where one cannot have its name, those before it keep theirs."""

    def __init__(self, adder: Target, directory: int, beside: Threads, most: int) -> None:
        self._adder = adder
        self._directory = directory
        self._beside = beside
        self._most = most  # of `_ready` that are open
        self._temporary = map(f".{os.urandom(8).hex()}.{{}}.tmp".format, itertools.count())
        self._task: Task[list[Digest]] | None = None
        self._given: deque[list[Copy]] = deque()  # what no thread has taken yet
        self._ready: list[Copy] = []  # on the disk, and waiting for their names

    def put(self, copies: list[Copy]) -> None:
        """Takes one over, when the last one is done."""
        self._given.append(copies)
        self.settle()
        self._task = self._beside.submit(self._prepare)

    def settle(self) -> None:
        """Waits for the last one. Whatever was wrong with it is raised."""
        task, self._task = self._task, None
        if task is not None:
            self._adder.check_present(self._directory, task.result())

    def finish(self) -> None:
        """Gives all their names."""
        self.settle()
        self._make_fans()
        there = self._give_names()
        self._adder.check_present(self._directory, there)

    def drop(self) -> None:
        """Closes what has no name, and takes temporary names away, when no thread works more."""
        for copies in (*self._given, self._ready):
            close(self._directory, copies)

    def _prepare(self) -> list[Digest]:
        copies = self._given.popleft()
        new, there = self._adder.prepare(self._directory, copies)
        fit = max(0, self._most - len(self._ready))
        self._ready += new  # dropped from now on, whatever comes
        for copy in new[fit:]:
            self._close_one(copy)
        return there

    def _close_one(self, copy: Copy) -> None:
        """It keeps a temporary name."""
        if not copy.temporary:
            place = next(self._temporary)
            try:
                os.link(procfs(copy.fd), place, dst_dir_fd=self._directory, follow_symlinks=True)
            except OSError as error:
                raise self._fault(error, copy) from None
            copy.temporary = place
        fd, copy.fd = copy.fd, -1
        os.close(fd)

    def _make_fans(self) -> None:
        """The directories, before the names: what fails later is durable all the same."""
        for fan, one in sorted({one.name[:2]: one for one in self._ready}.items()):
            try:
                self._adder.make_fan(self._directory, fan)
            except OSError as error:
                raise self._fault(error, one) from None

    def _give_names(self) -> list[Digest]:
        """To all. Returns those whose names are other files' by now."""
        there = []
        found = _cfshost.give_names(self._directory, self._ready, cores())
        for one, number in zip(self._ready, found, strict=True):
            if number == errno.EEXIST:
                there.append(one.digest)
            elif number not in (0, errno.ECANCELED):
                raise self._fault(OSError(number, os.strerror(number)), one)
        self.drop()
        return there

    def _fault(self, error: OSError, one: Copy) -> SystemFailure:
        place = self._adder.store.objects / one.name
        return SystemFailure("store", str(place), f"{os_error(error)}, for {one.source}")


def close(directory: int, copies: list[Copy]) -> None:
    """Closes them all, and takes their temporary names away."""
    for copy in copies:
        fd, copy.fd = copy.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
        if copy.temporary:
            with suppress(OSError):
                os.unlink(copy.temporary, dir_fd=directory)
            copy.temporary = ""
    copies.clear()
