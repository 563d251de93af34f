# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What layers unpack to, by Python's tarfile and in the plainest way: as composefs-dump(5)."""

import _cfs
import _cfshost
import io
import stat
import tarfile
from dataclasses import dataclass, field
from typing import Any

TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
_XATTR = "SCHILY.xattr."
Path = tuple[str, ...]


class Refusal(Exception):
    """No image can be made of them."""


@dataclass
class File:
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: str = "0.0"
    rdev: int = 0
    content: bytes = b""
    target: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def unpack(layers: list[bytes]) -> dict[Path, File]:
    """By path; () is the root."""
    tree: dict[Path, File] = {(): File(stat.S_IFDIR | 0o755)}
    for data in layers:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*", errors="surrogateescape") as tar:
            members = [(_parts(member.name), member) for member in tar]
            for path, _ in members:
                _take_away(tree, path)
            for path, member in members:
                if not path or not path[-1].startswith(".wh."):
                    _put(tree, path, member, tar)
    return tree


def _parts(name: str) -> Path:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or name.startswith("/"):
        raise Refusal(name)
    return parts


def _is_at(path: Path, above: Path) -> bool:
    return path[: len(above)] == above


def _drop(tree: dict[Path, File], path: Path, *, itself: bool) -> None:
    for other in list(tree):
        if _is_at(other, path) and (itself or other != path):
            del tree[other]


def _take_away(tree: dict[Path, File], path: Path) -> None:
    if not path or not path[-1].startswith(".wh."):
        return
    parent, name = path[:-1], path[-1]
    if parent not in tree or not tree[parent].is_directory:
        return
    if name == ".wh..wh..opq":
        _drop(tree, parent, itself=False)
    else:
        _drop(tree, (*parent, name.removeprefix(".wh.")), itself=True)


def _put(tree: dict[Path, File], path: Path, member: tarfile.TarInfo, tar: Any) -> None:
    for length in range(1, len(path)):
        above = tree.setdefault(path[:length], File(stat.S_IFDIR | 0o755))
        if not above.is_directory:
            raise Refusal(path)
    if not path and not member.isdir():
        raise Refusal(path)
    if not member.isdir():
        _drop(tree, path, itself=True)
    elif path in tree and not tree[path].is_directory:
        del tree[path]
    if member.islnk():
        target = tree.get(_parts(member.linkname))
        if target is None or target.is_directory:
            raise Refusal(path)
        tree[path] = target
        return
    tree[path] = _file(member, tar)


def _file(member: tarfile.TarInfo, tar: Any) -> File:
    mode = TYPES[member.type] | member.mode & 0o7777
    content = tar.extractfile(member).read() if member.isreg() else b""
    if member.issym():
        mode = stat.S_IFLNK | 0o777
    # Whatever tarfile makes of a fraction.
    mtime = member.pax_headers.get("mtime", str(int(member.mtime)))
    seconds, _, fraction = mtime.partition(".")
    nanoseconds = int(fraction.ljust(9, "0")[:9])
    if mtime.startswith("-") and nanoseconds:
        seconds, nanoseconds = str(int(seconds) - 1), 10**9 - nanoseconds
    rdev = member.devmajor << 8 | member.devminor if member.isdev() and not member.isfifo() else 0
    xattrs = {
        key.removeprefix(_XATTR): value
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    }
    return File(
        mode, member.uid, member.gid, f"{int(seconds)}.{nanoseconds}", rdev, content,
        member.linkname if member.issym() else "", xattrs,
    )  # fmt: skip


def _escaped(text: str | bytes) -> str:
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return "".join(f"\\x{byte:02x}" for byte in raw)


def dump(tree: dict[Path, File]) -> bytes:
    """Each name is a file of its own, as mkcomposefs has it of a directory."""
    lines = []
    for path, file in sorted(tree.items()):
        payload = inside = digest = "-"
        size = len(file.content)
        if file.target:
            payload = _escaped(file.target)
            size = len(file.target.encode(errors="surrogateescape"))
        elif 0 < size <= 64:
            inside = _escaped(file.content)
        elif size:
            digest = _cfshost.verity_digest(file.content, _cfs.SHA256).hex()
            payload = f"{digest[:2]}/{digest[2:]}"
        xattrs = "".join(f" {_escaped(key)}={_escaped(file.xattrs[key])}" for key in file.xattrs)
        name = "".join(f"/{_escaped(part)}" for part in path) or "/"
        lines.append(
            f"{name} {size} {file.mode:o} 1 {file.uid} {file.gid} {file.rdev} {file.mtime} "
            f"{payload} {inside} {digest}{xattrs}\n"
        )
    return "".join(lines).encode()
