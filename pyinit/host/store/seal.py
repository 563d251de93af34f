# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sealing a store: fs-verity on every object, and the measured digest compared with the name.

Per object: open, enable, measure. The kernel hashes, on as many cores as there are; a tool started
for each file would take minutes for 5,000 of them in an emulated machine.
"""

from __future__ import annotations

import _cfs
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from stat import S_ISREG

from pyinit.host.store import fsverity
from pyinit.host.store.layout import Names, Store
from pyinit.host.store.threads import Threads
from pyinit.initrd.report.errors import CfsError, Refused, SystemFailure
from pyinit.initrd.root.digest import Digest

# Sealing waits for the disk, so more than one thread a core; many more would wait for each other.
_THREADS = min(32, 4 * (os.cpu_count() or 1))
_BATCH = 64
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_NAME = "not named by a digest"
_NO_FILE = "not a regular file"


class Report:
    """What became of the objects. `wrong`: sealed, but the content is not what the name says."""

    def __init__(self) -> None:
        self.sealed = self.sealed_before = 0
        self.wrong: list[Refused] = []
        self.not_sealed: list[tuple[Path, str]] = []

    def add(self, other: Report) -> None:
        """Adds the numbers and the objects of another report to this one."""
        self.sealed += other.sealed
        self.sealed_before += other.sealed_before
        self.wrong += other.wrong
        self.not_sealed += other.not_sealed

    @property
    def total(self) -> int:
        """All objects that were looked at."""
        return self.sealed + self.sealed_before + len(self.wrong) + len(self.not_sealed)

    @property
    def reasons(self) -> Counter[str]:
        """Why objects are not sealed: each reason, and how many objects it stopped."""
        return Counter(reason for _, reason in self.not_sealed)

    def failure(self, path: Path) -> CfsError | None:
        """The one error that sums it up: wrong content first, since that is never harmless."""
        if not self.total:
            return Refused("store", str(path), "no object in it", "a store that has been filled")
        if self.wrong:
            found = f"{len(self.wrong)} of {self.total} objects have other content"
            return Refused("measure", str(path), found, "the digest that each is named by")
        if self.not_sealed:
            found = f"{len(self.not_sealed)} of {self.total} objects are not sealed"
            return SystemFailure("store", str(path), found)
        return None


def seal_store(store: Store, progress: Callable[[int, int], None]) -> Report:
    """Seals every object that can be sealed, and returns what became of them.

    `progress(objects done, objects in all)` is called from this thread. OSError: a directory of
    the store cannot be read.
    """
    report = Report()
    batches: list[Names] = []
    for names in store.walk():
        report.not_sealed += [(names.directory / name, _NO_NAME) for name in names.strange]
        batches += _split(names)
    total = sum(len(batch.named) for batch in batches)
    done = 0
    with Threads(_THREADS, store.path) as pool:
        work = partial(_seal_batch, compare=not store.is_ostree)
        try:
            for sealed in pool.as_completed(work, batches):
                report.add(sealed)
                done += sealed.total
                progress(done, total)
        except BaseException:
            pool.drop()
            raise
    # The contents are on the disk already (the kernel writes them first), the flags may not be.
    if report.sealed:
        os.sync()
    return report


def _split(names: Names) -> Iterator[Names]:
    for start in range(0, len(names.named), _BATCH):
        yield Names(names.directory, names.named[start : start + _BATCH], [])


def _seal_batch(batch: Names, compare: bool) -> Report:
    report = Report()
    try:
        directory = os.open(batch.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = fsverity.reason(error, batch.directory)
        report.not_sealed = [(batch.directory / name, reason) for name, _ in batch.named]
        return report
    try:
        for name, digits in batch.named:
            try:
                fd = os.open(name, _FLAGS, dir_fd=directory)
                try:
                    _seal_one(fd, batch.directory / name, digits, compare, report)
                finally:
                    os.close(fd)
            except OSError as error:
                path = batch.directory / name
                report.not_sealed.append((path, _why(error, path)))
    finally:
        os.close(directory)
    return report


def _seal_one(fd: int, path: Path, digits: str, compare: bool, report: Report) -> None:
    algorithm = _cfs.SHA256 if len(digits) == 64 else _cfs.SHA512
    digest, new = fsverity.seal(fd, algorithm)
    expected = Digest(algorithm, bytes.fromhex(digits))
    if compare and digest != expected:
        report.wrong.append(Refused("measure", str(path), str(digest), str(expected)))
    elif new:
        report.sealed += 1
    else:
        report.sealed_before += 1


def _why(error: OSError, path: Path) -> str:
    # O_NOFOLLOW; FS_IOC_ENABLE_VERITY on a directory, a FIFO
    if error.errno in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO):
        try:
            regular = S_ISREG(path.lstat().st_mode)
        except OSError:
            regular = False
        if not regular:
            return f"{_NO_FILE} ({errno.errorcode[error.errno]})"
    return fsverity.reason(error, path)
