# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Directories of the image made again on another file system, and removed.

Paths are those below /proc/self/fd of a directory that nobody else writes to. OSError as it is.
"""

import errno
import posix

from pyinit.initrd import inode

_CHUNK = 1024 * 1024
_PERMISSIONS = 0o7777


def attributes(source: str, target: str) -> None:
    """Owner, mode, xattrs (the SELinux label is one) and times."""
    status = posix.lstat(source)
    posix.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if inode.kind(status) != inode.LINK:
        posix.chmod(target, status.st_mode & _PERMISSIONS)
    for name in posix.listxattr(source, follow_symlinks=False):
        if name.startswith("trusted.overlay."):
            continue
        value = posix.getxattr(source, name, follow_symlinks=False)
        try:
            posix.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            # no SELinux, or a file system without user xattrs: nobody asks for them then
            if error.errno != errno.EOPNOTSUPP:
                raise
    posix.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def tree(source: str, target: str) -> None:
    """All that `source` has into `target`, an empty directory. Hard links become files."""
    directories = [""]
    for directory in directories:  # grows on the way
        with posix.scandir(source + directory) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            path = f"{directory}/{name}"
            if _entry(source + path, target + path):
                directories.append(path)
    for directory in reversed(directories):  # times last: what is made inside changes them
        attributes(source + directory + "/.", target + directory + "/.")


def _entry(source: str, target: str) -> bool:
    """One entry without what is below it. True: it is a directory, its attributes to follow."""
    status = posix.lstat(source)
    kind = inode.kind(status)
    if kind == inode.DIRECTORY:
        posix.mkdir(target, 0o700)
        return True
    if kind == inode.LINK:
        posix.symlink(posix.readlink(source), target)
    elif kind == inode.REGULAR:
        _content(source, target)
    else:
        posix.mknod(target, status.st_mode, status.st_rdev)
    attributes(source, target)
    return False


def _content(source: str, target: str) -> None:
    reader = posix.open(source, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        writer = posix.open(target, flags, 0o600)
        try:
            while data := posix.read(reader, _CHUNK):
                while data:
                    data = data[posix.write(writer, data) :]
        finally:
            posix.close(writer)
    finally:
        posix.close(reader)


def remove(path: str) -> None:
    """Whatever it is, with all that it has; no link is followed. None there: nothing to do."""
    try:
        if inode.kind(posix.lstat(path)) != inode.DIRECTORY:
            posix.unlink(path)
            return
    except FileNotFoundError:
        return
    todo = [path]
    while todo:
        with posix.scandir(todo[-1]) as found:
            entries = list(found)
        below = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            else:
                posix.unlink(entry.path)
        if below:
            todo += below  # and this one again, when they are gone
        else:
            posix.rmdir(todo.pop())
