# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A new repository, in the format of composefs-rs. `meta.json` is the last of it: what has been
begun and is empty is made whole the next time."""

from __future__ import annotations

import _cfs
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyinit.host.atomic import create_file, sync_directory
from pyinit.host.failure import system_failure
from pyinit.host.store import fsverity, metadata
from pyinit.host.store.layout import Store, is_fan_out, is_rest
from pyinit.initrd.report.errors import Refused, UsageError

_REST_OF_SHA256 = 62


@contextmanager
def created(
    path: Path, algorithm: int | None, verity: str, image_format: int = metadata.FORMAT
) -> Iterator[None]:
    """Makes one, or only the `meta.json` where a repository lacks it. `algorithm`: None takes that
    of the objects that are there, else SHA-256. `verity`: of `meta.json`, as for objects. If it is
    new, and what is done with it fails before anything came in, it goes again. `image_format`: the
    one that a new `meta.json` asks for.

    Refused, UsageError: what is there is something else; nothing has been made then.
    """
    made: list[Path] = []
    try:
        try:
            _create(path, algorithm, verity, image_format, made)
        except OSError as error:
            raise system_failure(error, step="store") from None
        yield
    except BaseException:
        _take_back(path, made)
        raise


def _create(
    path: Path, algorithm: int | None, verity: str, image_format: int, made: list[Path]
) -> None:
    found = _names_in(path) if path.exists() else set()
    if found is None:
        return
    one = algorithm or (min(found) if found else _cfs.SHA256)
    for directory in (path, path / "objects", path / "images"):
        try:
            directory.mkdir()
            made.append(directory)
        except FileExistsError:
            if not directory.is_dir():
                raise
    # Objects of two algorithms are in no repository of composefs-rs.
    if found <= {one}:
        # It says that every object has fs-verity: not of those that were there before.
        text = metadata.text(one, image_format)
        _write(path, text, one, "off" if found else verity, made)
    sync_directory(path.parent)


def _take_back(path: Path, made: list[Path]) -> None:
    """What goes wrong with that leaves it as a kill does."""
    directories = (path / "objects", path / "images")
    if not set(directories) <= set(made):
        return
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # see lock.py: nobody else is in it
            if not any(map(os.listdir, directories)):
                for one in reversed(made):
                    one.unlink() if one.name == metadata.FILE else one.rmdir()
        finally:
            os.close(fd)


def _write(path: Path, text: bytes, algorithm: int, verity: str, made: list[Path]) -> None:
    file = path / metadata.FILE
    with suppress(FileExistsError):  # another one was quicker
        create_file(
            file,
            text,
            0o644,
            lambda fd: _seal(fd, algorithm, verity, path),
        )
        made.append(file)


def _names_in(path: Path) -> set[int] | None:
    """The algorithms of the objects of what may become a repository; None: it is one already."""
    names = set(os.listdir(path))
    if {"config", "refs"} <= names:
        raise UsageError("usage", str(path), "an ostree repository: use ostree")
    if "objects" in names:
        Store(path)  # what it cannot open is none
        return None if metadata.FILE in names else _algorithms(path / "objects")
    if _algorithms(path):
        found = "objects at its top"
        raise Refused("store", str(path), found, "a directory without any, or no --create")
    return set()


def _algorithms(directory: Path) -> set[int]:
    return {
        _cfs.SHA256 if len(name) == _REST_OF_SHA256 else _cfs.SHA512
        for entry in os.scandir(directory)
        if is_fan_out(entry.name) and entry.is_dir(follow_symlinks=False)
        for name in os.listdir(entry.path)
        if is_rest(name)
    }


def _seal(fd: int, algorithm: int, verity: str, path: Path) -> None:
    """Says that every object has fs-verity: only where they get it."""
    if verity == "off":
        return
    try:
        fsverity.seal(fd, algorithm)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if verity == "require" or error.errno not in fsverity.UNSUPPORTED:
            found = f"not sealed: {fsverity.reason(error, path)}"
            file = str(path / metadata.FILE)
            raise Refused("store", file, found, "fs-verity, or --verity off") from None
