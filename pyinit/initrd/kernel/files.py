# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reading small files whole, with a limit, without an io module."""

import errno
import posix

# What fits into the interpreter's own heap comes first: files of procfs and sysfs are small, and a
# block of libc's heap would be new pages each time.
_FIRST, _CHUNK = 8192, 65536


def read(path: str, limit: int, dir_fd: int | None = None) -> bytes:
    """All bytes of a file. OSError as the kernel says it; EFBIG: more than `limit` bytes.

    Sizes are not asked for: sysfs, procfs and efivarfs tell wrong ones.
    """
    # O_NONBLOCK: a FIFO planted under the name must not hang the boot.
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK, dir_fd=dir_fd)
    try:
        return read_fd(fd, limit, path)
    finally:
        posix.close(fd)


def make_parents(path: str) -> None:
    """The directories above a path, where they are missing. OSError."""
    end = path.find("/", 1)
    while end > 0:
        try:
            posix.mkdir(path[:end], 0o755)
        except FileExistsError:
            pass
        end = path.find("/", end + 1)


def read_fd(fd: int, limit: int, path: str = "") -> bytes:
    """From the current position to the end; `path` only names the file in the error."""
    parts: list[bytes] = []
    total = 0
    while part := posix.read(fd, min(_CHUNK if total > _FIRST else _FIRST, limit + 1 - total)):
        parts.append(part)
        total += len(part)
        if total > limit:
            raise OSError(errno.EFBIG, f"More than {limit} bytes", path)
    return b"".join(parts)
