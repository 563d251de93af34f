# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sealing: writing the digests of a root into a UKI, as a section and as a file in its initrd."""

from __future__ import annotations

from pathlib import Path
from stat import S_IFDIR, S_IFREG
from typing import NamedTuple

from pyinit.host.atomic import write_file
from pyinit.host.uki import payload_write, read_back
from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.host.uki.pe_write import PeWriteError, Piece, rewrite
from pyinit.host.uki.read import (
    CARRIED,
    COMMAND_LINE,
    EMBEDDED,
    OBJECTS,
    Uki,
    find_embedded,
    has_objects,
    is_of,
)
from pyinit.initrd.report.errors import UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.payload import SECTION

# The kernel takes 4 NULs for the end of LZ4 data, which has no end mark of its own, and else takes
# what follows for more of it (Linux, lib/decompress_unlz4.c). Between archives it skips them.
END_OF_LZ4 = bytes(4)


def format_digests(digests: list[Digest], others: dict[str, Digest] | None = None) -> bytes:
    """The payload. UsageError: too many, or one twice."""
    try:
        return payload_write.write(digests, others)
    except ValueError as error:
        raise UsageError("usage", "--digest", str(error)) from None


class Embedded(NamedTuple):
    """The image of the root, and its objects by their names below the directory of objects. None:
    they are on the disk."""

    image: bytes
    objects: dict[str, bytes] | None = None


def carried_archive(data: bytes, more: Embedded | None = None) -> bytes:
    """The cpio archive that brings the carried file into the initrd, and before it what is embedded
    there."""
    files = [(CARRIED, data)]
    entries = []
    if more is not None:
        files.insert(0, (EMBEDDED, more.image))
    if more is not None and more.objects is not None:
        # The directory says that no disk is needed, even if the image has no object.
        entries.append(Entry(OBJECTS, S_IFDIR | 0o755))
        files[:0] = [(f"{OBJECTS}/{name}", content) for name, content in more.objects.items()]
    entries += [Entry(name, S_IFREG | 0o444, content) for name, content in files]
    return write_cpio(entries)


def carried_initrd(data: bytes, more: Embedded | None = None) -> bytes:
    """The archive, to be put behind any initrd at a multiple of 4."""
    return END_OF_LZ4 + carried_archive(data, more)


def seal(
    source: Path,
    target: Path,
    digests: list[Digest],
    *,
    others: dict[str, Digest] | None = None,
    more: Embedded | None = None,
    replace: bool = False,
    unsigned_command_line: bool = False,
) -> Uki:
    """Writes `source`, sealed with what is named, to `target`, perhaps the same file; `source`.
    `more`: the image of one of the digests, to be in the initrd.

    The result is read back and compared before it gets its name. Refused: signed (a signature or a
    PCR signature would not hold afterwards), sealed already unless `replace`, several profiles, no
    initrd, a layout that cannot be changed safely; no command line unless `unsigned_command_line`:
    then whoever starts the UKI says which program of the root is PID 1, and what it is told.
    """
    uki = Uki(source)
    _check(uki, replace)
    if uki.command_line() is None and not unsigned_command_line:
        raise uki.refused(
            f"no {COMMAND_LINE} section: whoever starts it would choose init= and its arguments",
            "one (ukify build --cmdline=...), or --unsigned-command-line",
        )
    data = format_digests(digests, others)
    initrd_index = uki.find(".initrd")
    assert initrd_index is not None
    initrd = [*_unsealed_initrd(uki, initrd_index), carried_archive(data, more)]
    _check_embedded(uki, initrd_index, len(initrd[0]), [] if more is not None else digests)
    old = uki.find(SECTION)
    try:
        written = rewrite(
            uki.data,
            change={initrd_index: initrd},
            remove=[] if old is None else [old],
            add=[(SECTION.encode(), data)],
        )
    except PeWriteError as error:  # as with the arm64 stub of Debian 12, which has data behind it
        expected = "a UKI that ukify built with what `cfs-uki payload` writes"
        raise uki.refused(str(error), expected) from None
    mode = (target if target.exists() else source).stat().st_mode & 0o7777
    write_file(target, written, mode, lambda path: read_back.check(uki, path, initrd, data))
    return uki


def _check(uki: Uki, replace: bool) -> None:
    if uki.signed:
        raise uki.refused("signed", "an unsigned UKI: seal first, then sign")
    if uki.profiles:
        raise uki.refused(
            f"{uki.profiles} profiles", "none: give ukify what `cfs-uki payload` writes"
        )
    if uki.find(".pcrsig") is not None:
        raise uki.refused(
            "a PCR signature (.pcrsig), which covers the initrd",
            "none: give ukify what `cfs-uki payload` writes",
        )
    if uki.find(".initrd") is None:
        raise uki.refused("no .initrd section", "a UKI with an initrd")
    if not replace and (uki.find(SECTION) is not None or uki.carried()):
        raise uki.refused("sealed already", "an unsealed UKI, or --replace")


def _check_embedded(uki: Uki, index: int, kept: int, digests: list[Digest]) -> None:
    """An image in the bytes of the initrd that are kept must be one that is named: else the boot
    refuses it. Objects there would have it need no disk. No digests: another image comes behind."""
    start = uki.sections[index].offset
    if has_objects(uki.data, start, start + kept):
        raise uki.refused(f"objects in its initrd ({OBJECTS})", "an initrd without them")
    found = find_embedded(uki.data, start, start + kept)
    if digests and found is not None and not any(is_of(found, digest) for digest in digests):
        expected = " or ".join(map(str, digests))
        raise uki.refused(f"another image in its initrd ({EMBEDDED})", expected)


def _unsealed_initrd(uki: Uki, index: int) -> list[Piece]:
    """The initrd, up to where the archive goes; without the one that an earlier sealing added."""
    initrd = uki.view(index)
    copies = uki.carried()
    if not copies:
        return [initrd, bytes(-len(initrd) % 4) + END_OF_LZ4]
    [*others, copy] = copies
    if others or not copy.alone or bytes(initrd[copy.end :]).strip(b"\0"):
        raise uki.refused("a carried copy that is part of the initrd", "an initrd without one")
    return [initrd[: copy.start]]
