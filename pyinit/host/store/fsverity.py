# SPDX-License-Identifier: Apache-2.0 OR MIT
"""fs-verity in user space: the digest that the kernel would measure, and why sealing fails.

Format: Linux Documentation/filesystems/fsverity.rst ("fs-verity descriptor", "Merkle tree").
"""

from __future__ import annotations

import _cfs
import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.report.errors import os_error
from pyinit.initrd.root.digest import ALGORITHMS, Digest

if TYPE_CHECKING:
    import hashlib

BLOCK_SIZE = 4096
_BLOCK_LOG = 12
# version, algorithm, log2 of the block size, salt size, reserved, data size, root hash, salt,
# reserved
_DESCRIPTOR = struct.Struct("<BBBB4xQ64s32s144x")
_CHUNK = 256 * BLOCK_SIZE

# What a person can do about it, where the kernel's words do not say.
_REASONS = {
    errno.EPERM: "it cannot be changed: chattr -i -a on it, and seal as its owner or as root",
    errno.ENOSPC: "no space for its hashes, a 100th of its size: make room and seal again",
    errno.EDQUOT: "no quota for its hashes, a 100th of its size: make room and seal again",
    errno.ETXTBSY: "open for writing somewhere, or mapped so: close it there and seal again",
    errno.EACCES: "no permission to write to it: seal as its owner or as root",
    errno.EROFS: "on a read-only file system: seal before it is mounted so",
    errno.ENOPKG: "the kernel lacks this hash algorithm (CONFIG_CRYPTO_SHA256, _SHA512)",
    errno.EBADMSG: "its fs-verity metadata is broken",
}
_SYS_FS = Path("/sys/fs")
_HAVE_IT = ("ext4", "f2fs", "btrfs")
UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP)


def digest_of(fd: int, algorithm: int) -> Digest:
    """Of a whole file, whatever its offset. Takes 1/64 of its size in memory at most."""
    return digest_blocks(_chunks(fd), algorithm)


def digest_blocks(chunks: Iterator[bytes], algorithm: int) -> Digest:
    """Of data in pieces, each but the last a multiple of BLOCK_SIZE."""
    import hashlib

    new: Callable[[bytes], hashlib._Hash] = getattr(hashlib, ALGORITHMS[algorithm])
    size = 0
    level = bytearray()
    for chunk in chunks:
        size += len(chunk)
        level += _hashes(chunk, new)
    digest_size = new(b"").digest_size
    while len(level) > digest_size:
        level = _hashes(bytes(level), new)
    # The root hash of an empty file is zeros.
    root = bytes(level).ljust(64, b"\0")
    descriptor = _DESCRIPTOR.pack(1, algorithm, _BLOCK_LOG, 0, size, root, b"")
    return Digest(algorithm, new(descriptor).digest())


def seal(fd: int, algorithm: int) -> tuple[Digest, bool]:
    """Enables fs-verity on a file open for reading only. (what the kernel measures, was it new)

    OSError: why it could not be enabled.
    """
    try:
        _cfs.verity_enable(fd, algorithm, BLOCK_SIZE)
        return Digest(*_cfs.verity_measure(fd)), True
    except OSError as error:
        # EEXIST of course; but a sealed file on a read-only file system answers EROFS.
        digest = measured(fd)
        if digest is None:
            raise error from None
        return digest, False


def measured(fd: int) -> Digest | None:
    """What the kernel measures; None where the file has no fs-verity. OSError: it cannot tell."""
    try:
        return Digest(*_cfs.verity_measure(fd))
    except OSError as error:
        if error.errno in (errno.ENODATA, *UNSUPPORTED):
            return None
        raise


def reason(error: OSError, path: Path) -> str:
    """Why the file `path` could not be sealed, in words of use."""
    number = error.errno or 0
    words = _REASONS.get(number)
    name = errno.errorcode.get(number, "")
    try:
        if number in UNSUPPORTED:
            remedy = _remedy(path)
            return f"no fs-verity on this file system or kernel ({remedy}) ({name})"
        if number == errno.EINVAL and (size := os.statvfs(path).f_bsize) < BLOCK_SIZE:
            return (
                f"blocks of {size} bytes, and fs-verity needs {BLOCK_SIZE}: "
                f"mkfs.ext4 -b 4096 ({name})"
            )
    except OSError:
        pass  # it is gone by now; the kernel's words are still true
    return os_error(error) if words is None else f"{words} ({name})"


def _remedy(path: Path) -> str:
    """What gives the file system of `path` fs-verity. It is named: a mount point may be forgotten.

    ext4 and f2fs have it as a feature, btrfs always (Linux 5.15). All three list it in sysfs where
    the kernel was built with it.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        mount = mountinfo.of(fd)
    finally:
        os.close(fd)
    if mount is None:
        return "ext4: tune2fs -O verity"
    features = _SYS_FS / mount.fstype / "features"
    if mount.fstype in _HAVE_IT and features.exists() and not (features / "verity").exists():
        return (
            f"{mount.fstype}: this kernel was built without CONFIG_FS_VERITY. "
            "Seal with another one, and a disk image by cfs-seal-disk --vm"
        )
    if mount.fstype == "ext4":
        return f"ext4: tune2fs -O verity {mount.source}"
    return f"{mount.fstype}: put the store on an ext4 with -O verity, a btrfs or an f2fs"


def _chunks(fd: int) -> Iterator[bytes]:
    offset = 0
    while chunk := _read(fd, offset):
        offset += len(chunk)
        yield chunk
        if len(chunk) < _CHUNK:
            return


def _read(fd: int, offset: int) -> bytes:
    """_CHUNK bytes, or up to the end of the file: pread() may give less."""
    pieces = []
    wanted = _CHUNK
    while wanted and (piece := os.pread(fd, wanted, offset)):
        pieces.append(piece)
        wanted -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


def _hashes(data: bytes, new: Callable[[bytes], hashlib._Hash]) -> bytearray:
    out = bytearray()
    for start in range(0, len(data), BLOCK_SIZE):
        out += new(data[start : start + BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0")).digest()
    return out
