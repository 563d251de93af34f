# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The bytes that pyinit.initrd.source.payload reads."""

from __future__ import annotations

from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.payload import (
    FIRST,
    INITRD,
    KEY,
    KINDS,
    MAX,
    MAX_DIGESTS,
    MAX_OTHERS,
    PREFIXES,
    is_name,
)

_NAME = (
    "a letter or digit, and then up to 63 of a-z, 0-9, '.', '_' and '-', without .raw, .v, .sysext "
    "or .confext at its end"
)


def write(roots: list[Digest], others: dict[str, Digest] | None = None) -> bytes:
    """A payload with these candidates for the root and these other images, by key. ValueError where
    no such bytes exist."""
    named = sorted((others or {}).items())
    if not 1 <= len(roots) <= MAX_DIGESTS or len(set(roots)) != len(roots):
        raise ValueError(f"{len(roots)} digests: 1 to {MAX_DIGESTS} different ones are possible")
    if len(named) > MAX_OTHERS:
        raise ValueError(f"{len(named)} images beside the root: {MAX_OTHERS} are possible")
    lines = [FIRST]
    for key, digest in [*((KEY, digest) for digest in roots), *named]:
        kind, _, name = key.partition(".")
        if key not in (KEY, INITRD) and not (kind in KINDS and is_name(name)):
            raise ValueError(f"{key}: a name is {_NAME}")
        lines.append(f"{key}={PREFIXES[digest.algorithm]}{digest.hex}")
    data = "".join(line + "\n" for line in lines).encode("ascii")
    if len(data) > MAX:
        raise ValueError(f"{len(data)} bytes: at most {MAX} are possible")
    return data
