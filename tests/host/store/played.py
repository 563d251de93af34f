# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A store on this machine's file systems, with a kernel that is played: machines that run tests may
lack fs-verity. Sealing by a real one is proved in a virtual machine."""

import _cfs
import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from pyinit.host.store import fsverity
from pyinit.initrd.root.digest import Digest

HELLO = b"hello world"
HELLO_HEX = "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"


_GET_VERSION = 0x80087601  # FS_IOC_GETVERSION


class Kernel:
    """fs-verity as in Linux: sealed files, by inode, and errors for those that shall fail."""

    def __init__(self) -> None:
        self.sealed: dict[int, Digest] = {}
        self._generations: dict[int, bytes] = {}
        self.fail: dict[str, int] = {}
        self.supported = True

    def enable(self, fd: int, algorithm: int, block_size: int) -> None:
        assert block_size == 4096
        self._forget(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        number = 0 if self.supported else errno.EOPNOTSUPP
        number = number or self.fail.get(os.path.basename(path), 0)
        if os.fstat(fd).st_ino in self.sealed:
            number = number or errno.EEXIST
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            number = errno.EINVAL
        if number:
            raise OSError(number, os.strerror(number))
        self.sealed[os.fstat(fd).st_ino] = fsverity.digest_of(fd, algorithm)

    def measure(self, fd: int) -> tuple[int, bytes]:
        self._forget(fd)
        digest = self.sealed.get(os.fstat(fd).st_ino)
        if digest is None:
            number = errno.ENODATA if self.supported else errno.ENOTTY
            raise OSError(number, os.strerror(number))
        return digest.pair

    def _forget(self, fd: int) -> None:
        """A file that has the inode of one that is gone is not sealed."""
        number, generation = os.fstat(fd).st_ino, bytes(8)
        with suppress(OSError):
            generation = fcntl.ioctl(fd, _GET_VERSION, generation)
        if self._generations.setdefault(number, generation) != generation:
            self._generations[number] = generation
            self.sealed.pop(number, None)


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def digits_of(content: bytes, algorithm: int = _cfs.SHA256) -> str:
    return fsverity.digest_blocks(iter([content]), algorithm).hex


def put(store: Path, content: bytes, name: str | None = None, algorithm: int = _cfs.SHA256) -> Path:
    """An unsealed object, under its digest or under another name."""
    digits = name or digits_of(content, algorithm)
    path = store / "objects" / digits[:2] / digits[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path
