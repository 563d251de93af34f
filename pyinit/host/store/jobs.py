# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is to be added to a store: files, and the objects of other stores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest


class Job(NamedTuple):
    """A file to add, and what its digest has to be where that is known."""

    path: Path
    algorithm: int
    expected: Digest | None = None


def jobs_of(paths: Iterable[Path], algorithm: int) -> tuple[list[Job], int]:
    """Files first, in the order given, then the objects of other stores, whose names must be the
    digests of their files. And how many are files."""
    files: list[Job] = []
    others: list[Job] = []
    for path in paths:
        if path.is_dir():
            others += _objects_of(path)
        else:
            files.append(Job(path, algorithm))
    return files + others, len(files)


def algorithm_of(paths: Iterable[Path]) -> int | None:
    """That of the names in the first of them that is a store."""
    for path in paths:
        if path.is_dir():
            return next((job.algorithm for job in _objects_of(path)), None)
    return None


def _objects_of(directory: Path) -> list[Job]:
    jobs: list[Job] = []
    for names in Store(directory).walk():
        if names.strange:
            strange = names.directory / names.strange[0]
            raise Refused("store", str(strange), "a name that is not a digest")
        for name, digits in names.named:
            path = names.directory / name
            expected = Digest.parse(digits, str(path))
            jobs.append(Job(path, expected.algorithm, expected))
    if not jobs:
        raise Refused("store", str(directory), "no object in it", "a store, or files")
    return jobs
