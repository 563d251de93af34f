# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How many copies there may be that have no name yet: each is an open file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pyinit.host.store.check import cores

# Copies that are brought to the disk at once, at most. Each is a descriptor meanwhile.
BATCH = 4096
# And those that stay open after that, until they get their names. More get temporary ones.
OPEN = 32768
# What the process has open beside them, and the threads that seal.
_RESERVED = 128
# A thread of the engine: a directory, a file, and the path to that. It may read copies while what
# was there is compared.
_OF_CORE = 2 * 3


class Room(NamedTuple):
    """How many copies there may be."""

    batch: int
    open: int  # that wait for their names


@contextmanager
def descriptors(batches: int, held: int = 0) -> Iterator[Room]:
    """How many copies there may be: in each batch, of so many that are there at a time, and waiting
    for their names beside these. `held`: what the caller has open. The limit is raised meanwhile,
    as far as it may."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _RESERVED + _OF_CORE * cores() + held
    wanted = batches * BATCH + OPEN + others
    soft, hard = before
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = wanted if limit == resource.RLIM_INFINITY else limit - others
        batch = min(BATCH, max(1, room // batches))
        yield Room(batch, min(OPEN, max(0, room - batches * batch)))
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
