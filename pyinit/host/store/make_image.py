# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image out of a directory or a composefs-dump(5): byte for byte as mkcomposefs 1.0.8 makes it,
or composefs-rs in its older format.

The writer is `_cfshost` (csrc/host/writer.h). What it made is read by our reader before it is given
away.
"""

from __future__ import annotations

import _cfs
import _cfshost
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyinit.host import atomic
from pyinit.host.failure import system_failure
from pyinit.host.store import image
from pyinit.host.store.add_tree import TreeAdder
from pyinit.host.store.changes import AS_IT_IS, Changes
from pyinit.host.store.check import cores
from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root.digest import Digest

# A million files are 300 MB.
TEXT_LIMIT = 1 << 31
VERSIONS = (0, 1)
"""Of the format, as composefs numbers it: 1 came with other marks of whiteouts."""
RUST = (2, 2)
"""Format 2, the older one of composefs-rs. No other version goes with it."""

_EXPECTED = "a text as of composefs-dump(5)"


Progress = Callable[[int, int], object]


def make(
    source: str,
    least: int | None = None,
    most: int | None = None,
    progress: Progress = lambda _, __: None,
    changes: Changes = AS_IT_IS,
    *,
    algorithm: int = _cfs.SHA256,
) -> bytes:
    """The image of the directory `source`, or of the text in that file.

    Its version is the lowest from `least` to `most` that the files need. Without both, all are
    tried; with one, the other is 0 or the same, as mkcomposefs has it. `progress(files, bytes)`:
    while a directory is read. SystemFailure: something cannot be read. Refused: no image can be
    made of it.
    """
    chosen = versions(least, most, changes)
    if not is_tree(source):
        return of_text(read_text(source), source, chosen)
    with _told(source), _opened(source) as fd:
        adjustment = changes.adjustment(algorithm)
        return _cfshost.image_of_tree(fd, cores(), *chosen, adjustment, progress)


def of_text(text: bytes, source: str, chosen: tuple[int, int]) -> bytes:
    """That of a text, which `source` names in messages. Refused."""
    if len(text) > TEXT_LIMIT:
        raise Refused("source", source, f"over {TEXT_LIMIT} bytes", _EXPECTED)
    with _told(source):
        return _cfshost.make_image(text, *chosen)


def add(
    adder: TreeAdder,
    source: str,
    formats: Sequence[tuple[int, int]] = (VERSIONS,),
    changes: Changes = AS_IT_IS,
) -> list[bytes]:
    """The images of the directory `source` in these formats, whose contents have been added to a
    store then. As for make(), and what TreeAdder.add_tree() has."""
    with _told(source), _opened(source) as fd:
        return adder.add_tree(fd, Path(source), formats, changes.adjustment(adder.algorithm))


def is_tree(source: str) -> bool:
    """Is it a directory, and no text?"""
    return os.path.isdir(source)


def versions(least: int | None, most: int | None, changes: Changes = AS_IT_IS) -> tuple[int, int]:
    """The lowest and the highest, as make() has it."""
    if least is None and most is None:
        # composefs-rs says 1 of all its images in this format.
        return (VERSIONS[-1], VERSIONS[-1]) if changes.bootable else VERSIONS
    return least or 0, max(least or 0, most or 0)


def in_formats(numbers: Sequence[int], changes: Changes) -> list[tuple[int, int]]:
    """The least and the most version for each number of a format in `meta.json`. Number 1 stands
    for what is made without a store."""
    known = {0: (0, 0), 1: versions(None, None, changes), 2: RUST}
    return [known[number] for number in numbers]


@contextmanager
def _opened(source: str) -> Iterator[int]:
    fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _told(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise system_failure(error, source) from None
    except _cfshost.Unreadable as broken:
        below, number, rule = broken.args
        path = source.rstrip("/") + os.fsdecode(below) if below else source
        if number:
            failure = system_failure(OSError(number, os.strerror(number)), path)
            if rule:
                failure = SystemFailure("store", path, f"{failure.found}, of its copy in the store")
            raise failure from None
        raise Refused("source", path, f"no image can be made: {rule}") from None
    except _cfshost.Unfit as broken:
        rule, line = broken.args
        if not line:
            raise Refused("source", source, f"no image can be made: {rule}") from None
        raise Refused("source", source, f"line {line}: {rule}", _EXPECTED) from None


def read_text(source: str) -> bytes:
    """A text from a file, for of_text(). SystemFailure."""
    with _told(source), open(source, "rb") as file:
        return file.read(TEXT_LIMIT + 1)


def digest(made: bytes, algorithm: int = _cfs.SHA256) -> Digest:
    """Its fs-verity digest."""
    return Digest(algorithm, _cfshost.verity_digest(made, algorithm))


def read(made: bytes, source: str) -> image.Image:
    """It, to be looked into. _cfshost.Malformed: a bug of the writer."""
    return image.Image(source, _cfshost.Image(made), made)


def check(made: bytes) -> None:
    """Reads the whole image. _cfshost.Malformed: a bug of the writer."""
    _cfshost.Image(made).dump(lambda _: None)


def write(made: bytes, path: Path) -> None:
    """Complete or not at all, and read back before it gets its name. Refused: what is read is no
    image, or another one. OSError: names `path`."""

    def compare(written: Path) -> None:
        image.read(written).dump(lambda _: None)
        if written.read_bytes() != made:
            raise Refused("erofs", os.fspath(path), "not what was written", "a disk that works")

    atomic.write_file(path, [made], 0o644, compare)
