# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_file(
    path: Path, data: bytes, mode: int, check: Callable[[Path], None] | None = None
) -> None:
    """Writes `data` beside `path`, syncs it, lets `check` read it there, then renames it.

    Whatever `check` raises leaves `path` as it was, and nothing beside it. `mode`: permissions;
    a file system that has none (FAT) keeps its own.
    """
    temporary = temporary_name(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            with suppress(PermissionError):
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def temporary_name(path: Path) -> Path:
    """A new name in the same directory, so that rename() can replace `path`."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
