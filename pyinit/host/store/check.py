# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Looking at a whole store: is each object what its name says, and each image whole?

Every object is read and hashed in user space, on all cores: no kernel with fs-verity is needed. The
kinds of faults have the names that `cfsctl fsck` of composefs-rs gives them.
"""

from __future__ import annotations

import _cfshost
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pyinit.host.failure import system_failure
from pyinit.host.store import image
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest

Progress = Callable[[int, int], object]


class Fault(NamedTuple):
    """`path` is below the store, `detail` what was found."""

    kind: str
    path: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}" + (f": {self.detail}" if self.detail else "")


class Report:
    """What was looked at, and what is wrong with it."""

    def __init__(self) -> None:
        self.objects = self.sealed = self.images = 0
        self.faults: list[Fault] = []

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**vars(self), "faults": [fault._asdict() for fault in self.faults]}


def measure(paths: Sequence[Path], algorithm: int, progress: Progress) -> list[Digest]:
    """The fs-verity digest of each file. SystemFailure, Refused: one cannot be read."""
    files = [(os.fsencode(path), algorithm) for path in paths]
    found = _cfshost.measure(-100, files, cores(), True, progress)  # AT_FDCWD
    digests = []
    for path, (number, regular, _, digest, _) in zip(paths, found, strict=True):
        if not regular:
            raise Refused("measure", str(path), "not a regular file", "a file")
        if number:
            raise system_failure(OSError(number, os.strerror(number)), str(path))
        digests.append(Digest(algorithm, digest))
    return digests


def check(store: Store, *, sealed: bool, progress: Progress) -> Report:
    """All objects and images. `sealed`: an object without fs-verity is a fault.

    `progress(objects, bytes)` is called ten times a second. SystemFailure: a directory of the store
    cannot be read.
    """
    report = Report()
    try:
        checked = _objects(store, sealed, report, progress)
        if store.images is not None and store.images.is_dir():
            _images(store, store.images, checked, report)
    except OSError as error:
        path = None if error.filename is not None else str(store.path)
        raise system_failure(error, path, "store") from None
    report.faults.sort(key=lambda fault: fault.path)
    return report


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _objects(store: Store, sealed: bool, report: Report, progress: Progress) -> _cfshost.Checked:
    below = "objects/" if store.objects != store.path else ""
    fd = os.open(store.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        checked = _cfshost.check(
            fd, below, store.is_ostree, store.named_images(), sealed, cores(), progress
        )
    except OSError as error:
        if error.filename is not None:  # else it is of no file: no thread can be started
            error.filename = str(store.path / os.fsdecode(error.filename))
        raise
    finally:
        os.close(fd)
    report.objects, report.sealed = checked.objects, checked.sealed
    for path in checked.strange:
        report.faults.append(Fault("object-invalid-name", path, "no digest"))
    compare = not store.is_ostree
    for path, digits, measured in checked.wrong:
        fault = _fault(path, digits, measured, compare=compare)
        if fault is None and sealed and not measured[2]:
            fault = Fault("object-verity-missing", path)
        if fault is not None:
            report.faults.append(fault)
    return checked


def _fault(path: str, digits: str, measured: _cfshost.Measured, *, compare: bool) -> Fault | None:
    number, regular, sealed, digest, by_kernel = measured
    if not regular:
        return Fault("object-open-failed", path, "not a regular file")
    if number:
        # What the kernel answers where the content of a sealed file is not what was sealed.
        kind = "object-verity-failed" if number == errno.EIO and sealed else "object-open-failed"
        return Fault(kind, path, f"{os.strerror(number)} ({errno.errorcode.get(number, number)})")
    if compare and digest.hex() != digits:
        return Fault("object-digest-mismatch", path, f"measured {digest.hex()}")
    if compare and sealed and by_kernel.hex() != digits:
        found = by_kernel.hex() or "nothing"
        return Fault("object-verity-failed", path, f"the kernel measures {found}")
    return None


def _images(store: Store, directory: Path, checked: _cfshost.Checked, report: Report) -> None:
    """Links to objects, or objects themselves, which were looked at by then."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name == "refs" or entry.name.startswith("."):
            continue
        report.images += 1
        path = f"images/{entry.name}"
        if not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
            report.faults.append(Fault("entry-not-symlink", path))
            continue
        if entry.is_symlink() and not os.path.exists(entry.path):
            report.faults.append(Fault("broken-symlink", path))
            continue
        report.faults += _image(store, path, Path(entry.path), checked)


def _image(store: Store, path: str, place: Path, checked: _cfshost.Checked) -> list[Fault]:
    try:
        lines, *_ = image.missing([image.read(place)], store.objects, checked)
    except Refused as error:
        return [Fault("image-invalid", path, error.found)]
    return [Fault("image-missing-object", path, os.fsdecode(name)) for name in lines.split()]
