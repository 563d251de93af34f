# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`meta.json` of a repository, in the format of composefs-rs: who may read it, and who may write.

It is no part of a boot, which looks at digests alone. A feature that is not known here was thought
of later: with an incompatible one nothing here means what it seems to mean, and one that is
read-only-compatible asks something of those that write.
"""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from pyinit.host.failure import system_failure
from pyinit.host.store import fsverity
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import ALGORITHMS

FILE = "meta.json"
_SIZE_LIMIT = 1 << 16
_VERSION = 1
FORMATS = (0, 1, 2)
"""Of images, as composefs-rs numbers them: 0 and 1 are mkcomposefs', 2 is its own older one."""
FORMAT = 1
"""That of a new repository."""
_LEGACY = 2  # of a repository without erofs_formats
_FORMAT_FLAG = "v1_erofs"  # says 1 in a repository that is older than erofs_formats
_WRITABLE = (_FORMAT_FLAG,)
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_IDENTIFIERS = {f"fsverity-{name}-12": number for number, name in ALGORITHMS.items()}


class Metadata(NamedTuple):
    """What it says. `foreign`: features for which one must not write here. `sealed`: the file has
    fs-verity, with which every object has to have it. `formats`: in which images are made. The
    first one gets the name. Some may be unknown here."""

    algorithm: int
    foreign: tuple[str, ...] = ()
    sealed: bool = False
    formats: tuple[int, ...] = (FORMAT,)


def read(repository: Path) -> Metadata | None:
    """None: there is none. SystemFailure: it cannot be read. Refused: it says what is not known
    here."""
    file = repository / FILE
    try:
        if not os.path.lexists(file):
            return None
        if not S_ISREG(file.lstat().st_mode):
            raise Refused("store", str(file), "not a regular file")
        fd = os.open(file, _FLAGS)
        try:
            data = os.read(fd, _SIZE_LIMIT)
            sealed = fsverity.measured(fd) is not None
        finally:
            os.close(fd)
    except OSError as error:
        raise system_failure(error, str(file), "store") from None
    return _parse(data, sealed, file)


def _parse(data: bytes, sealed: bool, file: Path) -> Metadata:
    import json

    try:
        meta = json.loads(data)
        version, algorithm = meta["version"], meta["algorithm"]
        features = meta.get("features", {})
        lists = [_names(features, key) for key in ("incompatible", "read-only-compatible")]
        _names(features, "compatible")
        formats = _formats(meta.get("erofs_formats", {"default": _LEGACY}), lists[1])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused("store", str(file), f"unreadable ({error})") from None
    incompatible, foreign = lists
    if version != _VERSION or incompatible:
        found = f"version {version}, features {incompatible}"
        raise Refused("store", str(file), found, "version 1 and no unknown feature")
    number = _IDENTIFIERS.get(algorithm) if isinstance(algorithm, str) else None
    if number is None:
        raise Refused("store", str(file), f"algorithm {algorithm}", "sha256 or sha512, 4096 bytes")
    unknown = tuple(name for name in foreign if name not in _WRITABLE)
    return Metadata(number, unknown, sealed, formats)


def _names(features: Any, key: str) -> list[str]:
    names = features.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} is no list of names")
    return names


def _formats(found: Any, features: list[str]) -> tuple[int, ...]:
    """The default, then the others in order. composefs-rs reads a default of 2 without others as if
    `erofs_formats` were missing: the feature says then whether it is 1."""
    default, extra = found["default"], found.get("extra", [])
    if not isinstance(extra, list) or not all(type(one) is int for one in (default, *extra)):
        raise ValueError("erofs_formats has other values than numbers")
    if default == _LEGACY and not extra and _FORMAT_FLAG in features:
        return (FORMAT,)
    return (default, *sorted(set(extra) - {default}))


def text(algorithm: int, image_format: int = FORMAT) -> bytes:
    """That of a new repository, as `cfsctl init --erofs-version` writes it."""
    import json

    meta = {
        "version": _VERSION,
        "algorithm": f"fsverity-{ALGORITHMS[algorithm]}-12",
        "features": {
            "compatible": [],
            "read-only-compatible": [_FORMAT_FLAG] if image_format == FORMAT else [],
            "incompatible": [],
        },
        "erofs_formats": {"default": image_format},
    }
    return json.dumps(meta, indent=2).encode() + b"\n"
