# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image out of tar files: layers of a container's root (csrc/host/layers.h)."""

from __future__ import annotations

import _cfshost
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pyinit.host.failure import system_failure
from pyinit.host.store.add_tree import TreeAdder
from pyinit.host.store.changes import AS_IT_IS, Changes
from pyinit.host.store.check import cores
from pyinit.initrd.report.errors import Refused, SystemFailure

_BLOCK = 512
_SUM = slice(148, 156)
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""Of gzip and zstd."""


def is_tar(path: str) -> bool:
    """Does a regular file begin as a tar file, or as what gzip or zstd has compressed?"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            block = os.pread(fd, _BLOCK, 0)
        finally:
            os.close(fd)
    except OSError:
        return False  # whoever reads it says so
    if block.startswith(_COMPRESSED):
        return True
    if len(block) < _BLOCK:
        return False
    field = block[_SUM].strip(b" \0")
    total = sum(block) - sum(block[_SUM]) + 8 * ord(" ")
    return not any(block) or field.lstrip(b"0") == b"%o" % total


def make(
    paths: Sequence[str],
    versions: tuple[int, int],
    progress: Callable[[int, int], object],
    changes: Changes = AS_IT_IS,
) -> bytes:
    """The image of layers, the lowest one first. SystemFailure: one cannot be read. Refused: it is
    broken, or no image can be made of it."""
    with _opened(paths) as fds, _told(paths):
        adjustment = changes.adjustment()
        return _cfshost.image_of_layers(fds, cores(), *versions, adjustment, progress)


def add(
    adder: TreeAdder,
    paths: Sequence[str],
    versions: tuple[int, int],
    changes: Changes = AS_IT_IS,
) -> bytes:
    """The same, and all contents have been added to a store then: those too that a layer above
    replaces. As for make(), and what TreeAdder.add_layers() has."""
    with _opened(paths) as fds, _told(paths):
        return adder.add_layers(fds, versions, changes.adjustment())


@contextmanager
def _opened(paths: Sequence[str]) -> Iterator[list[int]]:
    with ExitStack() as stack:
        fds = []
        for path in paths:
            try:
                fds.append(os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
            except OSError as error:
                raise system_failure(error, path) from None
            stack.callback(os.close, fds[-1])
        yield fds


@contextmanager
def _told(paths: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except _cfshost.Unfit as broken:
        raise Refused("source", paths[-1], f"no image can be made: {broken.args[0]}") from None
    except _cfshost.BadLayer as broken:
        layer, inside, number, rule, at = broken.args
        path, name = paths[layer], os.fsdecode(inside)
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
