# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Directories of the image made again on another file system, and removed.

Paths are those below /proc/self/fd of a directory that nobody else writes to. OSError as it is.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import inode

_CHUNK = 1024 * 1024
_PERMISSIONS = 0o7777
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_LEVELS_MAX = 32


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


def make_directory(path: str) -> None:
    """A directory of root's alone, with nothing of its parent: no ACL, no flag, no project.

    An attacker who had the disk may have given the parent a default ACL. Then some user could write
    to every directory of every new /var. Directories below this one inherit no ACL either.
    """
    posix.mkdir(path, 0o700)
    fd = posix.open(path, _DIRECTORY)
    try:
        own(fd, 0o700)
    finally:
        posix.close(fd)


def own(directory: int, mode: int) -> None:
    """The same for one that is there, with this mode."""
    _cfs.inherited_clear(directory)
    for name in posix.listxattr(directory):
        if not name.startswith("security."):  # a label, which the policy says
            posix.removexattr(directory, name)
    posix.fchown(directory, 0, 0)
    posix.fchmod(directory, mode)


def remove(path: str, dir_fd: int | None = None) -> None:
    """Removes a file, or a directory with all that is in it. It follows no link and enters no other
    mount. A name that does not exist is no error.

    What cannot be removed stays, with its parents; all else is removed. Then the first OSError is
    raised.
    However many names a directory has, and however deep they lie, memory is that of a few levels.
    """
    try:
        status = posix.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        if inode.kind(status) != inode.DIRECTORY:
            posix.unlink(path, dir_fd=dir_fd)
            return
        top = posix.open(path, _DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        error = _Removal(top).run()
    finally:
        posix.close(top)
    if error is not None:
        raise error
    posix.rmdir(path, dir_fd=dir_fd)


class _Level:
    """A directory that is being emptied, and its name in the one above."""

    __slots__ = ("entries", "fd", "name", "progress")

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.entries = posix.scandir(fd)
        self.progress = False  # since `entries` began

    def again(self) -> None:
        self.entries.close()
        self.entries = posix.scandir(self.fd)
        self.progress = False

    def close(self) -> None:
        self.entries.close()
        posix.close(self.fd)


class _Removal:
    """Empties a directory. Below _LEVELS_MAX, directories are moved up into the first one."""

    __slots__ = ("_error", "_levels", "_moved", "_top")

    def __init__(self, top: int) -> None:
        self._top = top
        self._levels: list[_Level] = []
        self._error: OSError | None = None
        self._moved = 0

    def run(self) -> OSError | None:
        """The first error of what is still there."""
        self._levels.append(_Level(posix.dup(self._top), ""))
        try:
            while self._levels:
                self._step(self._levels[-1])
        finally:
            while self._levels:
                self._levels.pop().close()
        return self._error

    def _step(self, level: _Level) -> None:
        entry = next(level.entries, None)
        if entry is None:
            self._end(level)
            return
        try:
            if not entry.is_dir(follow_symlinks=False):
                posix.unlink(entry.name, dir_fd=level.fd)
            elif len(self._levels) == _LEVELS_MAX:
                self._move_up(level, entry.name)
            else:
                # one that is empty, as most are, without a look into it
                try:
                    posix.rmdir(entry.name, dir_fd=level.fd)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    below = _cfs.open_beneath(level.fd, entry.name, _DIRECTORY)
                    self._levels.append(_Level(below, entry.name))
                    return
            level.progress = True
        except OSError as error:
            self._failed(error)

    def _end(self, level: _Level) -> None:
        """Some file systems pass entries over while others are removed; and what was moved up came
        behind the place that is read."""
        if level.progress:
            level.again()
            return
        self._levels.pop().close()
        if self._levels:
            above = self._levels[-1]
            try:
                posix.rmdir(level.name, dir_fd=above.fd)
                above.progress = True
            except OSError as error:
                self._failed(error)

    def _move_up(self, level: _Level, name: str) -> None:
        while True:
            self._moved += 1
            target = f".moved-{self._moved}"
            try:
                posix.rename(name, target, src_dir_fd=level.fd, dst_dir_fd=self._top)
            except OSError as error:
                # somebody's own: the next number
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:
                self._levels[0].progress = True
                return

    def _failed(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
