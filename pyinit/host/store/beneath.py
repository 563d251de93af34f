# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Directories of a store, each opened from the one above it: no link is followed, and no other file
system is entered. Whoever writes to the store could put either in the way of what deletes."""

from __future__ import annotations

import errno
import os
from typing import Self

from pyinit.initrd.kernel import mountinfo

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """An open one; to be used in a `with`. OSError: ENOTDIR or ELOOP for a link, EXDEV where
    something is mounted."""

    def __init__(self, path: str | os.PathLike[str], above: Directory | None = None) -> None:
        self.path: str = os.path.join(above.path if above is not None else "", path)
        if above is None:
            self.fd = os.open(path, _FLAGS & ~os.O_NOFOLLOW)
        else:
            self.fd = os.open(path, _FLAGS, dir_fd=above.fd)
        try:
            self.mount = mountinfo.mount_id(self.fd)
            _check_mount(self, above)
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def open(self, name: str) -> Directory:
        """The directory of that name in it."""
        try:
            return Directory(name, self)
        except OSError as error:
            # The kernel says ENOTDIR of a link, and ELOOP on some file systems.
            raise type(error)(error.errno, error.strerror, os.path.join(self.path, name)) from None

    def make(self, name: str) -> Directory:
        """The same, made where it is not there."""
        try:
            os.mkdir(name, 0o755, dir_fd=self.fd)
        except FileExistsError:
            pass
        return self.open(name)

    def names(self) -> list[str]:
        """What is in it, in order."""
        return sorted(os.listdir(self.fd))

    def link(self, name: str) -> str | None:
        """Where the link of that name leads; None: it is no link. OSError."""
        try:
            return os.readlink(name, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise


def _check_mount(directory: Directory, above: Directory | None) -> None:
    if above is not None and directory.mount != above.mount:
        raise OSError(errno.EXDEV, "another file system is mounted there")
