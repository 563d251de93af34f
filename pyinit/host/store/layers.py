# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image out of tar files: layers of a container's root (csrc/host/layers.h)."""

from __future__ import annotations

import _cfs
import _cfshost
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

from pyinit.host.failure import system_failure
from pyinit.host.store.add_tree import TreeAdder
from pyinit.host.store.changes import AS_IT_IS, Changes
from pyinit.host.store.check import cores
from pyinit.initrd.report.errors import Refused, SystemFailure

BLOCK = 512
_SUM = slice(148, 156)
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""Of gzip and zstd."""
_SHA256_SIZE = 32


class Part(NamedTuple):
    """An open file, or a part of one. `name` is for messages."""

    fd: int
    name: str
    start: bytes = b""
    """What of it has been read already."""
    offset: int | None = None
    """Where it begins; None: all that comes."""
    size: int = 0
    digest: bytes = b""
    """Raw, of SHA-256 or SHA-512: what it has to have. Empty: nobody has said."""


Parts = AbstractContextManager[Sequence[Part]]
"""Layers that are open, the lowest one first."""


def is_tar(path: str) -> bool:
    """Does a regular file begin as a tar file, or as what gzip or zstd has compressed?"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            block = os.pread(fd, BLOCK, 0)
        finally:
            os.close(fd)
    except OSError:
        return False  # whoever reads it says so
    return begins_tar(block)


def begins_tar(block: bytes) -> bool:
    """The same of its first BLOCK bytes, or of all where there are less."""
    if block.startswith(_COMPRESSED):
        return True
    if len(block) < BLOCK:
        return False
    field = block[_SUM].strip(b" \0")
    total = sum(block) - sum(block[_SUM]) + 8 * ord(" ")
    return not any(block) or field.lstrip(b"0") == b"%o" % total


def make(
    layers: Parts,
    versions: tuple[int, int],
    progress: Callable[[int, int], object],
    changes: Changes = AS_IT_IS,
    *,
    algorithm: int = _cfs.SHA256,
) -> bytes:
    """Their image. SystemFailure: one cannot be read. Refused: it is broken, or not what it should
    be, or no image can be made of it."""
    with layers as parts, _told(parts):
        adjustment = changes.adjustment(algorithm)
        return _cfshost.image_of_layers(_raw(parts), cores(), *versions, adjustment, progress)


def add(
    adder: TreeAdder,
    layers: Parts,
    formats: Sequence[tuple[int, int]],
    changes: Changes = AS_IT_IS,
) -> list[bytes]:
    """The same in each of the formats, and all contents have been added to a store then: those too
    that a layer above replaces. As for make(), and what TreeAdder.add_layers() has."""
    with layers as parts, _told(parts):
        return adder.add_layers(_raw(parts), formats, changes.adjustment(adder.algorithm))


def _raw(parts: Sequence[Part]) -> list[_cfshost.Part]:
    return [(part.fd, part.start, part.offset, part.size, part.digest) for part in parts]


@contextmanager
def files(paths: Sequence[str]) -> Iterator[list[Part]]:
    """Tar files. SystemFailure: one cannot be opened."""
    with ExitStack() as stack:
        parts = []
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                raise system_failure(error, path) from None
            stack.callback(os.close, fd)
            parts.append(Part(fd, path))
        yield parts


@contextmanager
def _told(parts: Sequence[Part]) -> Iterator[None]:
    try:
        yield
    except _cfshost.Unfit as broken:
        name = parts[-1].name
        raise Refused("source", name, f"no image can be made: {broken.args[0]}") from None
    except _cfshost.OtherDigest as other:
        layer, raw = other.args
        part = parts[layer]
        digest = _digest(raw)
        found = f"content with {digest}"
        raise Refused("source", part.name, found, _digest(part.digest)) from None
    except _cfshost.BadLayer as broken:
        layer, inside, number, rule, at = broken.args
        path, name = parts[layer].name, os.fsdecode(inside)
        if number and rule:
            error = OSError(number, os.strerror(number))
            failure = system_failure(error, f"{path}: {name}")
            found = f"{failure.found}, of its copy in the store"
            raise SystemFailure("store", failure.path, found) from None
        if number:
            raise system_failure(OSError(number, os.strerror(number)), path) from None
        if inside:
            place = f"{path}: {name}"
            raise Refused("source", place, f"no image can be made: {rule}") from None
        raise Refused("source", path, f"at byte {at}: {rule}", "a layer: a tar file") from None


def _digest(raw: bytes) -> str:
    algorithm = "sha256" if len(raw) == _SHA256_SIZE else "sha512"
    return f"{algorithm}:{raw.hex()}"
