# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The objects of the root in the initrd itself, where `cfs-uki seal --embed-objects` puts them.

A root for rescue needs no disk then. The kernel has no fs-verity for memory, so it cannot check
each read. Instead each object is copied to a file system that nobody else sees, hashed there, and
has to be what its name says. Nothing of it goes to swap, which may be a disk that others write to.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import mounting
from pyinit.initrd.report.errors import Refused, Step
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, Store
from pyinit.initrd.root.stage import Stage

PATH = "/usr/lib/composefs/objects"
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_NEW = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC
_AT_ONCE = 1 << 26


def is_there() -> bool:
    """Has this initrd objects?"""
    try:
        posix.stat(PATH)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


class MemoryStore(Store):
    """A copy of them, which lies in the stage."""

    __slots__ = ()

    def __init__(self, stage: Stage) -> None:
        """Refused("store"): they cannot be copied; Refused("measure"): one is another one than its
        name says."""
        options: list[tuple[str, str | None]] = [
            ("source", "cfs-objects"),
            ("mode", "0755"),
            ("size", "100%"),  # of the memory; its default is half of that
            ("noswap", None),  # Linux 6.4
        ]
        self.path = PATH
        try:
            memory = _cfs.fs_mount("tmpfs", options, mounting.NOSUID | mounting.NODEV)
        except OSError as error:
            raise mounting.mount_refused("tmpfs", PATH, error) from None
        self.fds = -1, memory, 0
        with Step("store", PATH):
            source = posix.open(PATH, _DIRECTORY)
            for prefix in posix.listdir(source):
                posix.mkdir(prefix, 0o755, dir_fd=memory)
                old = posix.open(prefix, _DIRECTORY, dir_fd=source)
                new = posix.open(prefix, _DIRECTORY, dir_fd=memory)
                for name in posix.listdir(old):
                    _copy(prefix, name, old, new)
                posix.close(old)
                posix.close(new)
            posix.close(source)
            _cfs.mount_set(memory, mounting.RDONLY, 0, False)
        stage.bring_in(memory)

    def open_image(self, digest: Digest) -> tuple[int, str]:
        """ImageMissing: images do not lie here."""
        raise ImageMissing("open", PATH, "no images", f"image {digest}")


def _copy(prefix: str, name: str, old: int, new: int) -> None:
    algorithm = _cfs.SHA256 if len(name) == 62 else _cfs.SHA512
    source = posix.open(name, _READ, dir_fd=old)
    copy = posix.open(name, _NEW, 0o444, dir_fd=new)
    while posix.sendfile(copy, source, None, _AT_ONCE):
        pass
    found = Digest(*_cfs.merkle_digest(copy, algorithm))
    if found.hex != prefix + name:
        raise Refused("measure", f"{PATH}/{prefix}/{name}", str(found), "what its name says")
    posix.close(copy)
    posix.close(source)
