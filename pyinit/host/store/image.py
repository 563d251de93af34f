# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A composefs image on the host: what is in it, and what it needs of a store.

The reader is `_cfshost` (csrc/host/erofs.h): it is given the whole file in memory, which nobody can
change or cut meanwhile.
"""

from __future__ import annotations

import _cfs
import _cfshost
import os
from contextlib import contextmanager
from stat import S_ISREG

from pyinit.host.failure import system_failure
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest

# `objects` and `missing` run in scripts, many times: typing and pathlib take longer to import than
# the engine takes to read an image.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import TypeVar

    Write = Callable[[bytes], object]
    _Found = TypeVar("_Found")

# No image of a system comes near: 64,000 files are 10 MB.
SIZE_LIMIT = 1 << 30


class Image:
    """One that was read. Its headers are right, the rest is looked at when it is needed."""

    __slots__ = ("data", "parsed", "path")

    def __init__(self, path: Path | str, parsed: _cfshost.Image, data: bytes) -> None:
        self.path = path
        self.parsed = parsed
        self.data = data

    def digest(self, algorithm: int) -> Digest:
        """The fs-verity digest of what was read."""
        return Digest(algorithm, _cfshost.verity_digest(self.data, algorithm))

    def dump(self, write: Write) -> None:
        """composefs-dump(5), in pieces. Refused: the image is broken, perhaps late."""
        with _broken(self.path):
            self.parsed.dump(write)

    def list(self, path: str | None, write: Write) -> bool:
        """A line for each file at and below `path`, in pieces; None for all. False: there is no
        such file. Refused: as for dump()."""
        parts = [part for part in (path or "").split("/") if part not in ("", ".")]
        wanted = "".join(f"/{part}" for part in parts)
        with _broken(self.path):
            return self.parsed.list(os.fsencode(wanted), write)


def read(path: Path | str) -> Image:
    """SystemFailure: it cannot be read. Refused: it is no composefs image."""
    try:
        # A FIFO must not hold it up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            data = read_open(fd, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise system_failure(error, str(path)) from None
    return parse(data, path)


def parse(data: bytes, path: Path | str) -> Image:
    """One that is in memory. Refused: it is no composefs image."""
    with _broken(path):
        return Image(path, _cfshost.Image(data), data)


def read_open(fd: int, path: Path | str) -> bytes:
    """All of an open file. Refused: it cannot be an image. OSError."""
    status = os.fstat(fd)
    if not S_ISREG(status.st_mode):
        raise Refused("erofs", str(path), "not a regular file", "a composefs image")
    if status.st_size > SIZE_LIMIT:
        found = f"{status.st_size} bytes"
        raise Refused("erofs", str(path), found, f"an image of at most {SIZE_LIMIT}")
    with open(fd, "rb", closefd=False) as file:
        return file.read(status.st_size)  # no more: that much memory is asked for at once


def algorithm(read: Image) -> int:
    """That of the store that it is for: its objects are named by it, and so is the image. SHA-256
    where it has none. Refused: it is broken."""
    names = objects([read])[0].split(b"\n", 1)[0].replace(b"/", b"")
    return _cfs.SHA512 if len(names) == 128 else _cfs.SHA256


def objects(images: Iterable[Image]) -> tuple[bytes, int]:
    """Where their files have their contents below the directory of objects, a line each, in order;
    and how many. Refused: one of them is broken."""
    return _all(images, _cfshost.objects)


def missing(
    images: Iterable[Image], directory: Path, checked: _cfshost.Checked | None = None
) -> tuple[bytes, int, int]:
    """What of that is no regular file in `directory`; how many, and of how many. `checked`: what
    was read there just now. SystemFailure: the directory cannot be read."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _all(images, lambda some: _cfshost.missing(some, fd, checked))
        finally:
            os.close(fd)
    except OSError as error:
        raise system_failure(error, str(directory), "store") from None


def _all(images: Iterable[Image], ask: Callable[[list[_cfshost.Image]], _Found]) -> _Found:
    read = list(images)
    try:
        return ask([image.parsed for image in read])
    except _cfshost.Malformed:
        for image in read:  # which one it was
            with _broken(image.path):
                _cfshost.objects([image.parsed])
        raise


@contextmanager
def _broken(path: Path | str) -> Iterator[None]:
    try:
        yield
    except _cfshost.Malformed as error:
        rule, offset = error.args
        found = f"no composefs image: {rule} at byte {offset}"
        raise Refused("erofs", str(path), found) from None
