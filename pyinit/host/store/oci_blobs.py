# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Where the files of an OCI image layout are: in a directory, or in an archive, a tar file.

No link is followed. An archive is read by the places of its members (csrc/host/archive.h).
"""

from __future__ import annotations

import _cfshost
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from stat import S_ISREG

from pyinit.host.failure import system_failure
from pyinit.host.store.layers import Part
from pyinit.initrd.report.errors import Refused

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = _FLAGS | os.O_NONBLOCK | os.O_NOCTTY


class Layout:
    """The files of one, by their names in it: `blobs/sha256/abcd`. Open as long as it is used."""

    def __init__(self, path: str) -> None:
        self.path = path

    def part(self, name: str) -> Part:
        """A file. SystemFailure: it cannot be read. Refused: it is no regular file."""
        raise NotImplementedError

    def place(self, name: str) -> str:
        """How people are told of it."""
        raise NotImplementedError


class _Directory(Layout):
    def __init__(self, path: str, stack: ExitStack) -> None:
        super().__init__(path)
        self._stack = stack
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, self._fd)

    def place(self, name: str) -> str:
        return os.path.join(self.path, name)

    def part(self, name: str) -> Part:
        place = self.place(name)
        try:
            fd = self._opened(name)
        except OSError as error:
            raise system_failure(error, place) from None
        self._stack.callback(os.close, fd)
        status = os.fstat(fd)
        if not S_ISREG(status.st_mode):
            raise Refused("source", place, "not a regular file")
        return Part(fd, place, offset=0, size=status.st_size)

    def _opened(self, name: str) -> int:
        """OSError: ELOOP or ENOTDIR of a link."""
        *above, last = name.split("/")
        at = self._fd
        with ExitStack() as stack:
            for part in above:
                at = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=at)
                stack.callback(os.close, at)
            return os.open(last, _FILE, dir_fd=at)


class _Archive(Layout):
    def __init__(self, path: str, stack: ExitStack) -> None:
        super().__init__(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        stack.callback(os.close, self._fd)
        if not S_ISREG(os.fstat(self._fd).st_mode):
            raise Refused("source", path, "not a regular file", "an OCI archive: a tar file")
        try:
            members = _cfshost.members(self._fd)
        except _cfshost.BadArchive as broken:
            found = f"no OCI archive: {broken}"
            raise Refused("source", path, found, "a tar file that is not compressed") from None
        self._members: dict[str, tuple[int, int, bool]] = {}
        for raw, offset, size, is_file in members:
            name = os.fsdecode(raw).removeprefix("./")
            if name in self._members and not name.endswith("/"):
                raise Refused("source", self.place(name), "twice in the archive")
            self._members[name] = (offset, size, is_file)

    def place(self, name: str) -> str:
        return f"{self.path}: {name}"

    def part(self, name: str) -> Part:
        if name not in self._members:
            raise Refused("source", self.place(name), "not in the archive")
        offset, size, is_file = self._members[name]
        if not is_file:
            raise Refused("source", self.place(name), "not a regular file")
        return Part(self._fd, self.place(name), offset=offset, size=size)


@contextmanager
def opened(path: str, *, is_archive: bool) -> Iterator[Layout]:
    """A layout. SystemFailure, Refused: it cannot be read, or is none."""
    with ExitStack() as stack:
        try:
            layout = _Archive(path, stack) if is_archive else _Directory(path, stack)
        except OSError as error:
            raise system_failure(error, path) from None
        yield layout
