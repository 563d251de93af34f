# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The image of the root in the initrd itself, where `cfs-uki seal --embed` puts it.

It is as trusted as this program, beside which it lies. Yet others that run in the initrd may write
there. So it is copied to memory that is sealed, and that copy is hashed and mounted. The kernel has
no fs-verity for memory: the Merkle tree is built here. Objects are the store's all the same, or lie
in the initrd too (memory_store.py).
"""

import _cfs
import errno
import posix

from pyinit.initrd.report.errors import Refused, Step, failure
from pyinit.initrd.root import image
from pyinit.initrd.root.digest import Digest

PATH = "/usr/lib/composefs/rootfs.cfs"
_NEEDS = "memfd_create, F_ADD_SEALS"


class EmbeddedImage(image.VerifiedImage):
    """A sealed copy in memory whose digest is one of those expected. EROFS takes no file of a
    tmpfs: so it is mounted over a loop device."""

    __slots__ = ()

    embedded = True

    def __init__(self, fd: int, candidates: list[Digest]) -> None:
        """Refused("measure"): it is none of the candidates; Refused("erofs"): it is no EROFS."""
        measured: dict[int, Digest] = {}
        for digest in candidates:
            kind = digest.algorithm
            if kind not in measured:
                measured[kind] = Digest(*_cfs.merkle_digest(fd, kind))
            if measured[kind] == digest:
                break
        else:
            found = " or ".join(map(str, measured.values()))
            raise Refused("measure", PATH, found, " or ".join(map(str, candidates)))
        self.fd = fd
        self.path = PATH
        self.digest = digest
        self.noacl = image.read_header(fd, PATH)


class WholeImage(EmbeddedImage):
    """One whose objects are in the initrd too (memory_store.py). They were hashed once, and nobody
    can write to them: the kernel checks no read."""

    __slots__ = ()

    verity = "memory"


def take(candidates: list[Digest], *, whole: bool = False) -> EmbeddedImage | None:
    """None: there is none in this initrd. `whole`: its objects are. Refused("open"): no sealed copy
    can be made, or only the objects are there; else as EmbeddedImage."""
    try:
        posix.stat(PATH)
    except OSError as error:
        if error.errno == errno.ENOENT and not whole:
            return None
        raise image.open_error(PATH, error) from None
    fd = image.open_file(PATH)
    try:
        copy = _cfs.memory_copy(fd)
    except OSError as error:
        raise failure("open", PATH, error, "memory for a sealed copy", _NEEDS) from None
    with Step("measure", PATH):
        return (WholeImage if whole else EmbeddedImage)(copy, candidates)


def free() -> None:
    """Takes the file out of the initramfs, whose memory it has. The copy is what is mounted."""
    try:
        if _cfs.root_is_initramfs():
            posix.unlink(PATH)
    except OSError:
        pass  # memory is all that is lost
