# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Adding to a store: each file under its digest, whole and durable before it has that name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from pyinit.host.atomic import sync_directory, temporary_name
from pyinit.host.failure import system_failure
from pyinit.host.store import fsverity
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused, SystemFailure, UsageError, os_error
from pyinit.initrd.root.digest import ALGORITHMS, Digest

# fsync() waits; several at once share one commit of the journal.
_THREADS = 8
_CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass
class Adder:
    """Adds files to one store. `verity`: auto, require or off. `algorithm`: where no name says it.

    `unsealed` says why auto left something without fs-verity. finish() makes the names durable.
    """

    store: Store
    algorithm: int
    verity: str = "auto"
    unsealed: str = ""
    _directories: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.store.is_ostree:
            raise UsageError("usage", str(self.store.path), "an ostree repository: use ostree")

    def add(self, path: Path, expected: Digest | None = None) -> Digest:
        """Adds one file. Refused: it is not a regular file, or not what `expected` says, or another
        content is there already under its name."""
        with _fault_of(path, f"to be added to {self.store.path}"):
            fd = os.open(path, _FLAGS)
        try:
            return self._add(fd, path, expected)
        finally:
            os.close(fd)

    def add_objects(self, directory: Path) -> None:
        """All of another store, whose names must be the digests of its files."""
        other = Store(directory)
        jobs: list[tuple[Path, Digest]] = []
        for names in other.walk():
            if names.strange:
                strange = names.directory / names.strange[0]
                raise Refused("store", str(strange), "a name that is not a digest")
            for name, digits in names.named:
                expected = Digest.parse(digits, str(names.directory / name))
                jobs.append((names.directory / name, expected))
        if not jobs:
            raise Refused("store", str(directory), "no object in it", "a store, or files")
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for _ in pool.map(lambda job: self.add(*job), jobs):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def link_image(self, digest: Digest) -> None:
        """images/<hex>, in a repository; elsewhere an image is an object like any."""
        images = self.store.images
        if images is None:
            return
        target = os.path.join("..", "objects", digest.hex[:2], digest.hex[2:])
        link = images / digest.hex
        try:
            images.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                link.symlink_to(target)
            found = os.readlink(link) if link.is_symlink() else "not a link"
        except OSError as error:
            raise system_failure(error, str(link), "store") from None
        if found != target:
            raise Refused("store", str(link), found, target)
        self._directories |= {images, self.store.path}

    def finish(self) -> None:
        """Makes the new names durable. OSError: the file system does not."""
        for directory in sorted(self._directories):
            sync_directory(directory)
        self._directories.clear()

    def _add(self, fd: int, path: Path, expected: Digest | None) -> Digest:
        with _fault_of(path, f"to be added to {self.store.path}"):
            if not S_ISREG(os.fstat(fd).st_mode):
                raise Refused("store", str(path), "not a regular file")
        algorithm = self.algorithm if expected is None else expected.algorithm
        if self.store.algorithm not in (None, algorithm):
            allowed = ALGORITHMS[self.store.algorithm or 0]
            raise Refused("store", str(path), ALGORITHMS[algorithm], f"{allowed} (meta.json)")
        with _fault_of(path, f"to be added to {self.store.path}"):
            digest = fsverity.digest_of(fd, algorithm)
        if expected is not None and digest != expected:
            raise Refused("measure", str(path), str(digest), str(expected))
        target = self.store.object_path(digest)
        with _fault_of(target, f"for {path}"):
            target.parent.mkdir(exist_ok=True)
            # Before the rename: what fails later is durable all the same.
            self._directories |= {target.parent, self.store.objects}
            if os.path.lexists(target):
                self._check_present(target, digest)
            else:
                self._copy(fd, path, target, digest)
        return digest

    def _copy(self, source: int, path: Path, target: Path, digest: Digest) -> None:
        temporary = temporary_name(target)
        out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            try:
                _copy_data(source, path, out)
                os.fsync(out)
            finally:
                os.close(out)  # fs-verity needs a file that nobody has open for writing
            self._seal(temporary, path, digest)
            os.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _check_present(self, target: Path, digest: Digest) -> None:
        """Never replaced: another process may have it mounted. Never trusted by its name either."""
        if target.is_symlink() or not target.is_file():
            raise Refused("store", str(target), "not a regular file", "an object")
        self._seal(target, target, digest)

    def _seal(self, path: Path, named: Path, digest: Digest) -> None:
        """Enables fs-verity as asked. Refused, under the name `named`: not sealed but required, or
        other content than `digest`, which is measured by the kernel where it can."""
        fd = os.open(path, _FLAGS | os.O_NOFOLLOW)
        try:
            found = fsverity.measured(fd)
            if found is None:
                found = fsverity.digest_of(fd, digest.algorithm)
                # Sealing wrong content would make it harder to remove, not better.
                if self.verity != "off" and found == digest:
                    found = self._enable(fd, named, digest)
        finally:
            os.close(fd)
        if found != digest:
            raise Refused("measure", str(named), str(found), str(digest))

    def _enable(self, fd: int, named: Path, digest: Digest) -> Digest:
        try:
            return fsverity.seal(fd, digest.algorithm)[0]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = fsverity.reason(error, self.store.objects)
            if self.verity == "require" or error.errno not in fsverity.UNSUPPORTED:
                found = f"not sealed: {reason}"
                raise Refused("store", str(named), found, "fs-verity, or --verity off") from None
            self.unsealed = reason
            return digest


@contextmanager
def _fault_of(path: Path, what: str) -> Iterator[None]:
    """An OSError inside is the failure of `path`; `what` names the other side."""
    try:
        yield
    except OSError as error:
        raise SystemFailure("store", str(path), f"{os_error(error)}, {what}") from None


def _copy_data(source: int, path: Path, target: int) -> None:
    """All of a file; the file system shares the blocks where it can.

    SystemFailure: `path` cannot be read. OSError: the target cannot be written.
    """
    offset = 0
    try:
        while count := os.copy_file_range(source, target, 1 << 30, offset, offset):
            offset += count
        if offset:
            return
    except OSError:
        # Other file systems, old kernels, special files (/proc), or a fault of which it does not
        # say whose it is: by hand, from where it ended.
        pass
    while chunk := _read(source, path, offset):
        view = memoryview(chunk)
        while view:
            written = os.pwrite(target, view, offset)
            view = view[written:]
            offset += written


def _read(source: int, path: Path, offset: int) -> bytes:
    with _fault_of(path, "to be added"):
        return os.pread(source, _CHUNK, offset)


def add_files(adder: Adder, files: Iterable[Path]) -> list[Digest]:
    """Files and object directories in the order given; the digests of the files."""
    digests = []
    for path in files:
        if path.is_dir():
            adder.add_objects(path)
        else:
            digests.append(adder.add(path))
    return digests
