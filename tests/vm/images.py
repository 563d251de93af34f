# SPDX-License-Identifier: Apache-2.0 OR MIT
"""EROFS images whose composefs xattrs say what a test wants: made by mkfs.erofs from a tar.

A file's content stands elsewhere when it has trusted.overlay.redirect (where) and
trusted.overlay.metacopy (fs-verity digest). In a tar they are plain PAX records, so neither root
rights nor mkcomposefs, which would write right ones only, are needed. Layout of the metacopy value:
Linux fs/overlayfs/overlayfs.h, struct ovl_metacopy.
"""

import io
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .toolbox import Toolbox

REDIRECT = "trusted.overlay.redirect"
METACOPY = "trusted.overlay.metacopy"
SHA256, SHA512 = 1, 2

_MTIME = 1_700_000_000


@dataclass(frozen=True)
class Member:
    """One file of an image: a directory if `name` ends with "/", a link if `link` is set."""

    name: str
    content: bytes = b""
    mode: int = 0o644
    link: str | None = None
    size: int | None = None
    """Size of a file whose content is elsewhere; the image has zeros."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    owner: tuple[int, int] = (0, 0)
    """User and group."""


def metacopy(
    digest: str,
    *,
    algorithm: int = SHA256,
    version: int = 0,
    length: int | None = None,
    flags: int = 0,
) -> bytes:
    """The value of METACOPY; an empty digest gives the old empty kind with header only."""
    raw = bytes.fromhex(digest)
    size = 4 + len(raw) if length is None else length
    return struct.pack("BBBB", version, size, flags, algorithm) + raw


def redirected(name: str, digest: str, size: int, **changes: int) -> Member:
    """A file as mkcomposefs writes it; `changes` go to `metacopy`."""
    return Member(
        name,
        size=size,
        xattrs={
            REDIRECT: f"/{digest[:2]}/{digest[2:]}".encode(),
            METACOPY: metacopy(digest, **changes),
        },
    )


def erofs(toolbox: Toolbox, path: Path, members: Iterable[Member]) -> Path:
    """An uncompressed EROFS image at `path` with `members` (parents are made by mkfs.erofs)."""
    archive = path.with_suffix(".tar")
    archive.write_bytes(_tar(members))
    try:
        toolbox.run("mkfs.erofs", "--quiet", "--tar=f", f"-T{_MTIME}", "-Uclear", path, archive)
    finally:
        archive.unlink()
    return path


def _tar(members: Iterable[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            if member.xattrs:
                # tarfile's own PAX headers are text; these values are bytes.
                records = b"".join(
                    _pax_record(f"SCHILY.xattr.{name}".encode(), value)
                    for name, value in member.xattrs.items()
                )
                header = tarfile.TarInfo("PaxHeader")
                header.type = tarfile.XHDTYPE
                header.size = len(records)
                archive.addfile(header, io.BytesIO(records))
            info = tarfile.TarInfo(member.name.rstrip("/"))
            info.mode, info.mtime = member.mode, _MTIME
            info.uid, info.gid = member.owner
            content = member.content if member.size is None else bytes(member.size)
            if member.name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif member.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, member.link
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> key=value\\n`, the length counting its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest
