# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An object store on the host: where things are, and the walk over its objects.

Layouts: csrc/cfs.h. Names are digests; of an ostree repository (`.file`) they are not, so there is
nothing to compare them with.
"""

from __future__ import annotations

import _cfs
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyinit.host.failure import system_failure
from pyinit.host.store import metadata
from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import ALGORITHMS, Digest
from pyinit.initrd.root.image import AT_FDCWD

ALGORITHM_NAMES = {name: number for number, name in ALGORITHMS.items()}

_TOLD = 5  # unknown formats, in a message
_FAN_OUT = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{62}(?:[0-9a-f]{64})?")
_HEX = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?")


class Names(NamedTuple):
    """One directory of a store, and what in it is named like an object: (name, hex digits)."""

    directory: Path
    named: list[tuple[str, str]]
    strange: list[str]  # neither an object nor hidden (a temporary file)


class Store:
    """An existing store. SystemFailure: it cannot be opened. Refused: of an unknown format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            root, objects, self.layout = _cfs.store_open(AT_FDCWD, os.fspath(path))
        except OSError as error:
            raise system_failure(error, str(path), "store") from None
        os.close(root)
        os.close(objects)
        plain = self.layout == _cfs.LAYOUT_OBJECTS
        self.objects = path if plain else path / "objects"
        self.images = path / "images" if self.layout == _cfs.LAYOUT_REPOSITORY else None
        repository = self.layout == _cfs.LAYOUT_REPOSITORY
        self.metadata = metadata.read(path) if repository else None
        # The one that is allowed here; None where nothing says it.
        self.algorithm = None if self.metadata is None else self.metadata.algorithm

    def require_writable(self) -> None:
        """Refused: `meta.json` asks something of those that write that is not known here."""
        if self.metadata is not None and self.metadata.foreign:
            found = f"features {', '.join(self.metadata.foreign)}"
            file = str(self.path / metadata.FILE)
            raise Refused("store", file, found, "none that is unknown, to write here")

    def formats(self) -> tuple[int, ...]:
        """In which images are made here; that of the first one gets the name. Refused: one is not
        known."""
        if self.metadata is None:
            return (metadata.FORMAT,)
        unknown = [one for one in self.metadata.formats if one not in metadata.FORMATS]
        if unknown:
            found = f"erofs_formats {', '.join(map(str, unknown[:_TOLD]))}"
            raise Refused("store", str(self.path / metadata.FILE), found, "0, 1 or 2")
        return self.metadata.formats

    def require_format(self, number: int) -> None:
        """UsageError: images are made in another one here."""
        first = self.formats()[0]
        if first != number:
            found = f"a repository that asks for format {first}"
            raise UsageError("usage", f"--erofs-version {number}", found)

    def choose_algorithm(self, name: str | None) -> int:
        """What `--hash` asked for (default: what the store says, else sha256)."""
        if name is None:
            return self.algorithm or _cfs.SHA256
        if self.algorithm not in (None, ALGORITHM_NAMES[name]):
            found = f"a repository of {ALGORITHMS[self.algorithm or 0]}"
            raise UsageError("usage", f"--hash {name}", found)
        return ALGORITHM_NAMES[name]

    def object_path(self, digest: Digest) -> Path:
        """Where the object of this digest lies, or would lie."""
        return self.objects / object_name(digest)

    @property
    def is_ostree(self) -> bool:
        """True for an ostree repository, whose object names are not fs-verity digests."""
        return bool(self.layout == _cfs.LAYOUT_OSTREE)

    def walk(self) -> Iterator[Names]:
        """Each directory of objects, and the images that are regular files."""
        for name in sorted(os.listdir(self.objects)):
            # The top may hold other things: the image beside its objects, a file system's own.
            if _FAN_OUT.fullmatch(name):
                yield self._names(self.objects / name, name)
        if self.images is not None:
            yield Names(self.images, [(name, name) for name in self.named_images()], [])

    def named_images(self) -> list[str]:
        """The images that are regular files, not links to objects."""
        if self.images is None or not self.images.is_dir():
            return []
        return [
            entry.name
            for entry in os.scandir(self.images)
            if entry.is_file(follow_symlinks=False) and _HEX.fullmatch(entry.name)
        ]

    def _names(self, directory: Path, prefix: str) -> Names:
        all_names = os.listdir(directory)
        is_named = _REST.fullmatch
        if self.is_ostree:
            # Its directories and commits lie beside the files.
            rests = [name.removesuffix(".file") for name in all_names if name.endswith(".file")]
            named = [(f"{rest}.file", prefix + rest) for rest in rests if is_named(rest)]
            return Names(directory, named, [])
        named = [(name, prefix + name) for name in all_names if is_named(name)]
        strange = []
        if len(named) != len(all_names):
            others = set(all_names) - {name for name, _ in named}
            strange = sorted(name for name in others if not name.startswith("."))
        return Names(directory, named, strange)


def object_name(digest: Digest) -> str:
    """Where it lies in the directory of objects."""
    digits = digest.hex
    return f"{digits[:2]}/{digits[2:]}"


def is_fan_out(name: str) -> bool:
    """Is it named like a directory of objects?"""
    return _FAN_OUT.fullmatch(name) is not None


def is_rest(name: str) -> bool:
    """Is it named like an object in such a directory?"""
    return _REST.fullmatch(name) is not None
