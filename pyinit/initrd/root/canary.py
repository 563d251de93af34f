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

# Whole pages, in a block of the interpreter's own heap: one of libc's would be new pages each time.
_CHUNK = 12 * 1024


def check(composed: image.VerifiedImage, root: int, where: str) -> str | None:
    """Reads the file. Its path, or None where the image has no content in the store.

    `root` is a directory descriptor of the overlay above the image, `where` names it in
    Refused("check").
    """
    try:
        path = _cfs.image_canary(composed.fd)
    except OSError as error:
        if error.errno == errno.EIO:
            found = "its data was changed on the disk, or the disk fails (EIO)"
            raise Refused("check", composed.path, found, "its sealed content") from None
        raise failure("check", composed.path, error, "an image that can be searched") from None
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
