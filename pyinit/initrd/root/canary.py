# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One file read whole before a root is handed over.

A mount that succeeded proves little: without fs-verity in the kernel `verity=require` is accepted
and every open fails; with an object directory of another system the mount succeeds too.

Which one: the first regular file whose content lies in the store, breadth first, the
names of a directory sorted by their bytes, of at most 16 MiB where there is one: a large one would
hold up the boot. It is the same file on each boot of an image.
"""

import _cfs
import errno
import posix

from pyinit.initrd.report.errors import LACKS, Refused, failure, os_error
from pyinit.initrd.root import image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    _Names = TypeVar("_Names")

# Whole pages, in a block of the interpreter's own heap: one of libc's would be new pages each time.
_CHUNK = 12 * 1024
_LARGE = 16 * 1024 * 1024
# Set by mkcomposefs on files with content in the store; hidden by overlayfs, seen on EROFS.
_METACOPY = "trusted.overlay.metacopy"


def check(lower: int, root: int, where: str) -> str | None:
    """Reads the file. Its path, or None where the image has no content in the store.

    `lower` is a directory descriptor of the EROFS mount, `root` of the overlay above it, `where`
    names the root in Refused("check").
    """
    try:
        path = find(lower)
    except OSError as error:
        raise failure("check", where, error, "an image that can be listed") from None
    if path is not None:
        try:
            _read_whole(root, path)
        except OSError as error:
            found = os_error(error)
            if error.errno in LACKS:
                raise failure("check", f"{where}/{path}", error) from None
            if error.errno == errno.EIO:
                found += "; the object is changed or has no fs-verity"
            expected = "readable to its end"
            if error.errno == errno.EPERM and image.wants_signatures():
                found, expected = f"{image.NO_SIGNATURE}: {found}", image.NO_SIGNATURES
            raise Refused("check", f"{where}/{path}", found, expected) from None
    return path


def find(lower: int) -> str | None:
    """The path by the rule, relative, or None. OSError of the image as it is."""
    large: str | None = None
    level: Iterable[str] = [""]
    while True:
        listed = []
        for directory in level:
            directories, files, others, more = _listed(lower, directory, _cfs.directory_first)
            listed.append((directory, directories, others))
            for path in _in(directory, files, _rest(lower, directory, files, 1) if more else None):
                if _in_store(f"/proc/self/fd/{lower}/{path}"):
                    status = posix.stat(path, dir_fd=lower, follow_symlinks=False)
                    if status.st_size <= _LARGE:
                        return path
                    large = large or path
        if not listed:
            return large
        level = _below(lower, listed)


def _below(lower: int, listed: "list[tuple[str, list[str], bool]]") -> "Iterator[str]":
    """The directories of the next level. Most often the first few have a file: so the others are
    not even listed before they are wanted."""
    for directory, few, more in listed:
        yield from _in(directory, few, _rest(lower, directory, few, 0) if more else None)


def _in(directory: str, few: list[str], rest: "Iterator[str] | None") -> "Iterator[str]":
    start = f"{directory}/" if directory else ""
    for name in few:
        yield start + name
    if rest is not None:
        for name in rest:
            yield start + name


def _rest(lower: int, directory: str, few: list[str], kind: int) -> "Iterator[str]":
    """The names behind the first few."""
    names = _listed(lower, directory, _cfs.directory_names)[kind]
    names.sort(key=_as_bytes)
    yield from names[len(few) :]


def _as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _listed(lower: int, directory: str, names: "Callable[[int], _Names]") -> "_Names":
    """Directories and regular files. An image of mkcomposefs has 256 whiteouts in its root: as
    objects of Python they would cost as much as the mount."""
    fd = posix.open(
        directory or ".",
        posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC,
        dir_fd=lower,
    )
    try:
        return names(fd)
    finally:
        posix.close(fd)


def _in_store(path: str) -> bool:
    try:
        posix.getxattr(path, _METACOPY, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return False
        raise
    return True


def _read_whole(root: int, path: str) -> None:
    fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=root)
    try:
        expected = posix.fstat(fd).st_size
        total = 0
        while part := posix.read(fd, min(_CHUNK, expected + 1)):
            total += len(part)
        if total != expected:
            raise OSError(errno.EIO, f"{total} of {expected} bytes")
    finally:
        posix.close(fd)
