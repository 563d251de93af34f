# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cpio archives of the kind that the kernel unpacks as an initramfs ("newc").

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. The same entries give the
same bytes: times, owners and device are 0, inode numbers count the entries.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import NamedTuple

MAGIC = b"070701"
TRAILER = "TRAILER!!!"

_HEADER_SIZE = 110
_FIELDS = 13
# GNU cpio's block. The kernel needs 4 only, and skips NULs between archives.
_BLOCK = 512
_NAME_MAX = 4096  # PATH_MAX: the kernel skips longer ones, silently
_DATA_MAX = 0xFFFFFFFF


class CpioError(ValueError):
    """An archive that cannot be written or read; the text says which entry and why."""


class Entry(NamedTuple):
    """One file. `mode` has the type bits (`stat.S_IFREG | 0o644`); `data` is a link's target.

    `rdev` is (major, minor) of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


class Member(NamedTuple):
    """A file in an archive that is read. `start`, `size`: of its data in the buffer, in bytes."""

    name: str
    mode: int
    start: int
    size: int
    rdev: tuple[int, int]


def write_cpio(entries: Iterable[Entry]) -> bytes:
    """The archive, padded to 512 bytes. Entries keep their order; parents come before them (0755).

    CpioError: an absolute, empty or non-canonical name, one given twice, a parent that is no
    directory, a mode without type, data on what cannot have any.
    """
    out = bytearray()
    inode = 0
    for inode, entry in enumerate(_with_parents(entries), 1):
        _append(out, entry, inode)
    _append(out, Entry(TRAILER, 0), 0)
    out += bytes(-len(out) % _BLOCK)
    return bytes(out)


def read_cpio(data: bytes, offset: int = 0) -> tuple[list[Entry], int]:
    """The one archive that starts at `offset`, and where it ends (after its trailer, 4-aligned).

    Names are given as they stand. Hard links are separate entries, as the archive has them.
    CpioError: no archive there, or a broken or cut one.
    """
    members, end = read_members(data, offset, len(data))
    return [
        Entry(each.name, each.mode, data[each.start : each.start + each.size], each.rdev)
        for each in members
    ], end


def read_members(data: bytes | mmap, offset: int, limit: int) -> tuple[list[Member], int]:
    """As read_cpio(), of what lies before `limit`, and copies nothing."""
    start = offset
    found: list[Member] = []
    while True:
        name, mode, size, rdev, body = _header(data, offset, start, limit)
        end = body + size
        if end > limit:
            raise CpioError(f"{name}: {size} bytes of data, {limit - body} are there")
        # The last padding may be missing at the very end of a buffer.
        offset = min(_align(end, start), limit)
        if name == TRAILER:
            return found, offset
        found.append(Member(name, mode, body, size, rdev))


def find_archives(
    data: bytes | mmap, start: int = 0, limit: int | None = None
) -> Iterator[tuple[int, int, list[Member]]]:
    """(start, end, members) of each uncompressed archive in an initrd, in order.

    The initrd is what lies in `data` from `start` up to `limit`; all offsets are in `data`. It is a
    sequence of archives, some compressed, with NULs between. A compressed one does not say where it
    ends, so what follows it is found by its magic: 4-aligned, with a trailer.
    """
    limit = len(data) if limit is None else limit
    offset = start
    while (offset := data.find(MAGIC, offset, limit)) >= 0:
        if (offset - start) % 4 == 0:
            try:
                members, end = read_members(data, offset, limit)
            except CpioError:
                pass
            else:
                yield offset, end, members
                offset = end
                continue
        offset += 1


def _with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    given: dict[str, Entry] = {}
    for entry in entries:
        _check(entry)
        if entry.name in given:
            raise CpioError(f"{entry.name}: there twice")
        given[entry.name] = entry
    done: set[str] = set()
    for name, entry in given.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            directory = given.get(parent) or Entry(parent, stat.S_IFDIR | 0o755)
            if not stat.S_ISDIR(directory.mode):
                raise CpioError(f"{name}: its parent {parent} is no directory")
            if parent not in done:
                done.add(parent)
                yield directory
        if name not in done:
            done.add(name)
            yield entry


def _check(entry: Entry) -> None:
    name = entry.name
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise CpioError(f"{name!r}: not a relative, canonical name")
    # As a directory it would become an entry of that name.
    if name.partition("/")[0] == TRAILER or len(_encoded(name)) >= _NAME_MAX:
        raise CpioError(f"{name!r}: a name that an archive cannot have")
    if not stat.S_IFMT(entry.mode) or entry.mode > 0o177777:
        raise CpioError(f"{name}: mode {entry.mode:#o} has no file type")
    if entry.data and not (stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode)):
        raise CpioError(f"{name}: data, but neither a file nor a link")
    major, minor = entry.rdev
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise CpioError(f"{name}: no device {entry.rdev}")
    if len(entry.data) > _DATA_MAX:
        raise CpioError(f"{name}: {len(entry.data)} bytes, over 4 GiB")


def _append(out: bytearray, entry: Entry, inode: int) -> None:
    name = _encoded(entry.name) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
    out += MAGIC + b"".join(b"%08x" % field for field in fields) + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)


def _header(
    data: bytes | mmap, offset: int, start: int, limit: int
) -> tuple[str, int, int, tuple[int, int], int]:
    """(name, mode, size, rdev, offset of the data)"""
    raw = data[offset : min(offset + _HEADER_SIZE, limit)]
    if len(raw) < _HEADER_SIZE or not raw.startswith(MAGIC):
        raise CpioError(f"no cpio header at byte {offset}")
    digits = raw[len(MAGIC) :]
    # int() would take spaces, signs and underscores
    if digits.strip(b"0123456789abcdefABCDEF"):
        raise CpioError(f"a header field at byte {offset} is no hex number")
    fields = [int(digits[8 * i : 8 * i + 8], 16) for i in range(_FIELDS)]
    size, name_size = fields[6], fields[11]
    name_at = offset + _HEADER_SIZE
    if not 0 < name_size <= _NAME_MAX or name_at + name_size > limit:
        raise CpioError(f"a name of {name_size} bytes at byte {offset}")
    name = data[name_at : name_at + name_size]
    if name.find(b"\0") != name_size - 1:
        raise CpioError(f"the name at byte {name_at} does not end with its one NUL")
    body = _align(name_at + name_size, start)
    text = name[:-1].decode("utf-8", "surrogateescape")
    return text, fields[1], size, (fields[9], fields[10]), body


def _align(offset: int, start: int) -> int:
    return offset + (start - offset) % 4


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
