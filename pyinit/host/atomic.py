# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_IFREG, S_ISDIR, S_ISREG

from pyinit.initrd.report.errors import UsageError

Pieces = Sequence[bytes | bytearray | memoryview]


def write_file(
    path: Path, pieces: Pieces, mode: int, check: Callable[[Path], None] | None = None
) -> None:
    """Writes `pieces`, one behind the other, beside `path`, syncs them, lets `check` read them
    there, then renames the file.

    A symbolic link is followed. A device, a FIFO or a terminal (/dev/stdout) is written to, after
    `check` has read them elsewhere. Whatever `check` raises leaves `path` as it was, and nothing
    beside it. `mode`: permissions; a file system that has none (FAT) keeps its own.
    UsageError: `path` is a directory. OSError: names `path`, or the directory that is missing.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        kind = S_IFREG
    if S_ISDIR(kind):
        raise UsageError("usage", str(path), "a directory", "the name of a file")
    if not S_ISREG(kind):
        _write_to_special(path, pieces, check)
        return
    path = Path(os.path.realpath(path))
    if not path.parent.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = temporary_name(path)
    try:
        _write_and_rename(temporary, path, pieces, mode, check)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise
    sync_directory(path.parent)


def _write_and_rename(
    temporary: Path, path: Path, pieces: Pieces, mode: int, check: Callable[[Path], None] | None
) -> None:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
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


def _write_to_special(path: Path, pieces: Pieces, check: Callable[[Path], None] | None) -> None:
    """A rename would put a regular file in its place: /dev/null would be one from then on."""
    if check is not None:
        import tempfile  # half of the time that it takes to start, and hardly ever needed

        with tempfile.NamedTemporaryFile() as file:
            file.writelines(pieces)
            file.flush()
            check(Path(file.name))
    fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def create_file(path: Path, data: bytes, mode: int, check: Callable[[int], None]) -> None:
    """A new file, which is on the disk, and which `check` has been given open for reading, before
    it has its name. A kill leaves nothing: until then it has none, where the file system has such.

    FileExistsError: there is something of that name. OSError: names `path`.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd, temporary = open_new(directory, path, mode)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(fd)
            reader = reopen(fd) if temporary is None else os.open(temporary, _READ)
            os.close(fd)  # fs-verity needs a file that nobody has open for writing
            fd = reader
            check(fd)
            os.link(
                procfs(fd) if temporary is None else temporary,
                path.name,
                dst_dir_fd=directory,
                follow_symlinks=temporary is None,
            )
            os.fsync(directory)
        finally:
            os.close(fd)
            if temporary is not None:
                os.unlink(temporary)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(directory)


_READ = os.O_RDONLY | os.O_CLOEXEC


def open_new(directory: int, path: Path, mode: int) -> tuple[int, Path | None]:
    """A new file, without a name; with a temporary one only where the file system has no others,
    which it says by EOPNOTSUPP, and a kernel that does not know O_TMPFILE by EISDIR."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        if has_procfs():
            return os.open(".", os.O_TMPFILE | flags, mode, dir_fd=directory), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    temporary = temporary_name(path)
    return os.open(temporary, os.O_CREAT | os.O_EXCL | flags, mode), temporary


def procfs(fd: int) -> str:
    """A path of an open file, also of one without a name."""
    return f"/proc/self/fd/{fd}"


def has_procfs() -> bool:
    """Can an open file be named? Without that one without a name can get none."""
    return os.path.exists("/proc/self/fd")


def reopen(fd: int) -> int:
    """The same file, open for reading only."""
    return os.open(procfs(fd), _READ)


def temporary_name(path: Path) -> Path:
    """A new name in the same directory, so that rename() can replace `path`."""
    return path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}.tmp")


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
