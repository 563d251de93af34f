# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The lock on a store: many may read it and add to it at once, one alone may take away.

An flock(2) on the directory of the repository, as composefs-rs has it: of cfsctl and bootc each
holds it shared while it has the repository open, and exclusively while it collects. It goes with
the process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyinit.host.failure import system_failure
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused, os_error

Tell = Callable[[str], object]
# Some network file systems, and FUSE, have no such locks.
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def shared(store: Store, tell: Tell) -> Iterator[None]:
    """Nothing is taken away meanwhile. `tell` hears that it has to wait. Where the file system
    has no locks it goes without: nobody can take away there either, see exclusive().
    SystemFailure: the directory cannot be opened."""
    with _held(store, fcntl.LOCK_SH, tell):
        yield


@contextmanager
def exclusive(store: Store, tell: Tell) -> Iterator[None]:
    """Nobody else works on the store meanwhile. Refused: the file system has no locks."""
    with _held(store, fcntl.LOCK_EX, tell):
        yield


def place(store: Store) -> Path:
    """The directory with the lock: of a repository its top, also where its objects are named."""
    top = Path(os.path.realpath(store.path)).parent
    return top if repository_above(store) else store.path


def repository_above(store: Store) -> bool:
    """Is what was named as a store the objects alone of a repository?"""
    path = Path(os.path.realpath(store.path))
    return (
        store.images is None
        and path.name == "objects"
        and any(os.path.lexists(path.parent / name) for name in ("images", "streams", "meta.json"))
    )


@contextmanager
def _held(store: Store, how: int, tell: Tell) -> Iterator[None]:
    directory = place(store)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise system_failure(error, str(directory), "store") from None
    try:
        _take(fd, how, directory, tell)
        yield
    finally:
        os.close(fd)


def _take(fd: int, how: int, directory: Path, tell: Tell) -> None:
    try:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{directory}: another process works on it: waiting for its lock")
            fcntl.flock(fd, how)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise system_failure(error, str(directory), "store") from None
        if how == fcntl.LOCK_EX:
            found = f"no lock on this file system: {os_error(error)}"
            raise Refused("store", str(directory), found) from None
