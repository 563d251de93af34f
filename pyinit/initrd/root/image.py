# SPDX-License-Identifier: Apache-2.0 OR MIT
"""From a store and a digest to an image that may be mounted.

Descriptors are close-on-exec and live as long as the process: it composes one root and then
exits or executes the init of that root.
"""

import _cfs
import errno

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import LACKS, CfsError, Refused, failure, os_error
from pyinit.initrd.root.digest import Digest

AT_FDCWD = -100  # <linux/fcntl.h>

_SIGNATURES = "/proc/sys/fs/verity/require_signatures"
NO_SIGNATURE = "sealed without a signature of the kernel's"
NO_SIGNATURES = f"0 in {_SIGNATURES}: the digest is what is checked here"
_OPENAT2 = "openat2 (Linux 5.6)"
_OPEN_FAULTS = {
    errno.EINVAL: "not a regular file",
    errno.ENXIO: "not a regular file",
    errno.EXDEV: "a link that leads out of the store",
    errno.ELOOP: "a link loop, or a link where none is followed",
    errno.EBADF: "a dangling link",
}
_HEADER_FAULTS = {
    errno.EMSGSIZE: "too short for an EROFS superblock",
    errno.EBADMSG: "no EROFS superblock",
    errno.EPROTONOSUPPORT: "a composefs header of an unknown version",
    # what fs-verity answers where data and the measured digest do not match
    errno.EIO: "its data was changed on the disk, or the disk fails (EIO)",
}


class Store:
    """An open object store."""

    __slots__ = ("fds", "path")

    def __init__(self, path: str) -> None:
        """Opens the store at `path`. Refused("store"): there is none."""
        self.path = path
        try:
            self.fds = _cfs.store_open(AT_FDCWD, path)
        except OSError as error:
            raise failure("store", path, error, "an object store", _OPENAT2) from None

    @property
    def objects(self) -> int:
        """The descriptor of the directory that has the objects."""
        return self.fds[1]

    def open_image(self, digest: Digest) -> tuple[int, str]:
        """Descriptor and path of the file with the digest's own name; no other name is tried.

        ImageMissing where that name does not exist, else Refused("open").
        """
        try:
            fd, name = _cfs.store_open_image(self.fds, digest.pair)
        except OSError as error:
            path = f"{self.path}/{error.filename or digest.hex}"
            if error.errno == errno.ENOENT:
                raise ImageMissing("open", path, os_error(error), f"image {digest}") from None
            raise open_error(path, error) from None
        return fd, f"{self.path}/{name}"


class ImageMissing(Refused):
    """No image of that name: the only reason to go on to the next candidate."""


def open_file(path: str) -> int:
    """A descriptor of an image outside a store. Refused("open"): it cannot be opened."""
    try:
        return _cfs.image_open(AT_FDCWD, path)
    except OSError as error:
        raise open_error(path, error) from None


def open_error(path: str, error: OSError) -> CfsError:
    """What to raise where an image cannot be opened."""
    if error.errno in _OPEN_FAULTS:
        found = f"{_OPEN_FAULTS[error.errno]}: {os_error(error)}"
        return Refused("open", path, found, "a regular file")
    if error.errno == errno.EOPNOTSUPP:  # what it answers to opening a file that has it
        found = f"sealed, and this kernel has no fs-verity: {os_error(error)}"
        return Refused("open", path, found, "a kernel with CONFIG_FS_VERITY")
    if error.errno == errno.EPERM and wants_signatures():
        return Refused("open", path, f"{NO_SIGNATURE}: {os_error(error)}", NO_SIGNATURES)
    return failure("open", path, error, "a regular file", _OPENAT2)


def wants_signatures() -> bool:
    """Does the kernel open sealed files only with a signature by a key that it has?"""
    try:
        return files.read(_SIGNATURES, 16).strip() not in (b"", b"0")
    except OSError:
        return False  # a kernel without them


class VerifiedImage:
    """A file that the kernel measured and whose digest is the expected one.

    The constructor is the only check and there is no way around it: what compose.py mounts is the
    descriptor of one of these, so what was measured is what is mounted.
    """

    __slots__ = ("digest", "fd", "noacl", "path")

    verity = "require"
    embedded = False

    def __init__(self, fd: int, path: str, digest: Digest) -> None:
        """Refused("measure") unless the digest is right, Refused("erofs") unless it is EROFS."""
        self.check(fd, path, digest)
        self.fd = fd
        self.path = path
        self.digest = digest
        self.noacl = read_header(fd, path)

    @staticmethod
    def check(fd: int, path: str, digest: Digest) -> None:
        """Has the kernel measure the file. Refused("measure"): it is another digest, or none."""
        try:
            found = Digest(*_cfs.verity_measure(fd))
        except OSError as error:
            if error.errno in LACKS:
                raise failure("measure", path, error) from None
            raise Refused("measure", path, _measure_fault(error), str(digest)) from None
        if found != digest:
            raise Refused("measure", path, str(found), str(digest))


class UnmeasuredImage(VerifiedImage):
    """`--verity off`: a file taken as it is. Only cfs-mount's own option leads here."""

    __slots__ = ()

    verity = "off"

    @staticmethod
    def check(fd: int, path: str, digest: Digest) -> None:
        """Nothing is measured, and every file is accepted."""


def _measure_fault(error: OSError) -> str:
    if error.errno == errno.ENODATA:
        return "no fs-verity on this file (ENODATA)"
    if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
        return f"this kernel or file system has no fs-verity: {os_error(error)}"
    if error.errno == errno.EPROTONOSUPPORT:
        return "measured by another algorithm than SHA-256 or SHA-512"
    return os_error(error)


def read_header(fd: int, path: str) -> bool:
    """May ACLs be switched off? Only where mkcomposefs says that the image has none.
    Refused("erofs"): it is no EROFS image."""
    try:
        _composefs, _version, has_acl, _magic, _size = _cfs.image_header(fd)
    except OSError as error:
        if error.errno not in _HEADER_FAULTS:
            raise failure("erofs", path, error, "an EROFS image") from None
        raise Refused("erofs", path, _HEADER_FAULTS[error.errno], "an EROFS image") from None
    return not has_acl
