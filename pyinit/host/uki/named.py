# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that the boot files of a machine name: of UKIs, and of the entries of boot loaders.

Who asks keeps just these images. So a file that cannot be read is told, and so is a place without
any: perhaps the ESP is not mounted there.
"""

from __future__ import annotations

import _cfs
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pyinit.host.failure import system_failure
from pyinit.host.uki.read import NotBooting, Uki, is_of, on_line
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest

Hold = Callable[[Digest, bytes], None]
_Named = tuple[list[Digest], CfsError | None]
_ENTRY_MAX = 65536


def below(
    path: Path, *, entries: bool = False, hold: Hold | None = None
) -> Iterator[tuple[Path, list[Digest], CfsError | None]]:
    """Of a file, or of each *.efi below a directory that has a say in what boots; with `entries`
    those of boot loaders too (loader/entries/*.conf) where they name a digest. With an error there
    may be digests that were named before it. `hold` is given each image that a UKI has in its
    initrd, before the UKI comes."""
    walked = path.is_dir()
    try:
        for file in _files(path) if walked else [path]:
            found = _entry(file) if entries and _is_entry(file) else _uki(file, walked, hold)
            if found is not None:
                yield file, *found
    except OSError as error:
        yield path, [], system_failure(error)


def none_in(path: Path) -> Refused:
    """What a place is told where below() gives nothing: the caller deletes what no UKI names, so
    that an empty answer would delete all."""
    return Refused("source", str(path), "no UKI in it", "at least one")


def _uki(file: Path, walked: bool, hold: Hold | None) -> _Named | None:
    if walked and not file.name.lower().endswith(".efi"):
        return None
    found: dict[Digest, None] = {}
    try:
        uki = Uki(file)
        for digest in uki.named_digests():
            found[digest] = None
        if hold is not None:
            _give_images(uki, [*found], hold)
    except NotBooting as error:
        return None if walked else ([], error)
    except CfsError as error:
        return [*found], error
    return [*found], None


def _give_images(uki: Uki, digests: list[Digest], hold: Hold) -> None:
    for profile in range(_cfs.PE_BASE, uki.profiles):
        image = uki.embedded(profile)
        if image is not None:
            for digest in digests:
                if is_of(image, digest):
                    hold(digest, bytes(image))


def _is_entry(file: Path) -> bool:
    return file.name.endswith(".conf") and file.parts[-3:-1] == ("loader", "entries")


def _entry(file: Path) -> _Named | None:
    """Where a boot loader is told the command line, and so the digest."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(_ENTRY_MAX)
        options = [words[1] for words in map(_words, data.splitlines()) if words[0] == b"options"]
        found = on_line(b" ".join(options), str(file))
    except OSError as error:
        return [], system_failure(error, str(file))
    except CfsError as error:
        return [], error
    return (found, None) if found else None


def _words(line: bytes) -> list[bytes]:
    return [*line.split(None, 1), b"", b""]


def _files(path: Path) -> Iterator[Path]:
    for directory, directories, names in os.walk(path, onerror=_raise):
        directories.sort()
        for name in sorted(names):
            yield Path(directory, name)


def _raise(error: OSError) -> None:
    raise error
