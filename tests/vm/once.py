# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Things that are made once and shared: by name, whole or not at all, by one process at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .target import TARGET

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / ("" if TARGET.native else TARGET.gnu)

STAMP = ".stamp"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; a second process waits for the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def made_once(destination: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Directory `destination` as `make(directory)` filled it.

    `key` is all that the content depends on: another key makes it anew. `make` gets an empty
    directory beside the destination, which is renamed when it is complete, so nobody ever sees
    half of it; if it raises, nothing is left behind.
    """
    stamp = destination / STAMP
    if _text(stamp) == key:
        return destination
    with locked(destination.parent / f".{destination.name}.lock"):
        if _text(stamp) == key:
            return destination
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        try:
            temporary.chmod(0o755)
            make(temporary)
            (temporary / STAMP).write_text(key)
            if destination.exists():
                shutil.rmtree(destination)
            temporary.rename(destination)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return destination


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
