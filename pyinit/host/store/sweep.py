# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an `add` that was killed left: temporary files of earlier versions, of file systems where a
file cannot be without a name, and of more copies than can be kept open."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from pyinit.host.store.layout import Store, is_fan_out

# `.OBJECT.HEX.tmp` beside the object, its name cut at 100; `.HEX.NUMBER.tmp` above; `.meta.json…`.
_LEFT = re.compile(r"\.(?:[0-9a-f]{62,100}|[0-9a-f]{16}|meta\.json)\.(?:[0-9a-f]{12}|[0-9]+)\.tmp")
_SECONDS = 3600  # earlier versions take no lock: one may be at work


def sweep(store: Store, place: Path) -> int:
    """Takes them away, if nobody works on the store: `place` is the directory with its lock. How
    many. Whatever goes wrong can wait until the next time."""
    swept = 0
    with suppress(OSError):
        left = [path for directory in _directories(store) for path in _left_in(directory)]
        if not left:
            return 0
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in left:
                path.unlink()
                swept += 1
        finally:
            os.close(lock)
    return swept


def _directories(store: Store) -> list[Path]:
    below = [store.objects / name for name in os.listdir(store.objects) if is_fan_out(name)]
    return [*{store.path, store.objects}, *(path for path in below if not path.is_symlink())]


def _left_in(directory: Path) -> list[Path]:
    # Of 40,000 objects only names are looked at.
    hidden = [name for name in os.listdir(directory) if name.startswith(".")]
    return [directory / name for name in hidden if _LEFT.fullmatch(name) and _old(directory / name)]


def _old(path: Path) -> bool:
    status = path.lstat()
    return S_ISREG(status.st_mode) and status.st_mtime < time.time() - _SECONDS
