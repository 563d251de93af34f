# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Layers for tests, by Python's tarfile, and the images of them."""

import _cfshost
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinit.host.store import layers, make_image
from pyinit.host.store.changes import Changes

Entry = tuple[str, bytes, dict[str, Any], bytes]
"""Name, kind, fields, content."""


def tar(entries: Sequence[Entry], pax: bool = True) -> bytes:
    """By Python's tarfile."""
    out = io.BytesIO()
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for name, kind, fields, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def written(place: Path, parts: Sequence[bytes]) -> list[str]:
    paths = []
    for number, part in enumerate(parts):
        paths.append(str(place / f"{number}.tar"))
        Path(paths[-1]).write_bytes(part)
    return paths


def image(paths: Sequence[str], changes: Changes | None = None) -> bytes:
    changes = changes or Changes()
    versions = make_image.versions(None, None, changes)
    made = layers.make(layers.files(paths), versions, lambda _, __: None, changes)
    make_image.check(made)
    return made


def dumped(made: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    _cfshost.Image(made).dump(pieces.append)
    return b"".join(pieces).splitlines()
