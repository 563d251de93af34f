# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What in an image fights a sealed root: nothing of it can be changed once it is sealed.

An image may be of something else than a root that boots, a container's for example: these are
warnings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from pyinit.host.store import labels
from pyinit.host.store.image import Image

Content = Callable[[str, str], bytes]
"""Of a file, by its path and by the name of its object below the directory of objects. OSError:
nobody knows it."""

FSTAB, MACHINE_ID, INIT = "/etc/fstab", "/etc/machine-id", "/sbin/init"
_DIRECTORIES = ("/etc", "/usr", "/var", "/sysroot")
_LINKS = 40  # as the kernel has it
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}
# A line of a file with content that its owner may not read. Without the newline it would take three
# times as long.
_CLOSED = re.compile(rb"\n(\S+) [1-9]\d* 10[0-7][0-3][0-7]{2} ")


def found(image: Image, content: Content) -> Iterator[str]:
    """Each fault, with the line of the file where there is one. Refused: the image is broken."""
    lines = _Lines((*map(os.fsencode, (*_DIRECTORIES, FSTAB, MACHINE_ID)),))
    image.dump(lines.write)
    if labels.missing(image, lambda name: content(labels.CONFIG, name)):
        yield labels.WARNING
    fields = [lines.found.get(os.fsencode(path)) for path in _DIRECTORIES]
    there = [one is not None and one[2].startswith(b"4") for one in fields]
    for path, is_there in zip(_DIRECTORIES, there, strict=True):
        if any(there) and not is_there:  # else it is no root at all
            yield f"no directory {path}: nothing can be mounted there, and none be made later"
    text = _text(lines, FSTAB, content)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        is_comment = not words or words[0].startswith(b"#")
        if not is_comment and words[1:2] == [b"/"] and words[2:3] != [b"cfs"]:
            yield (
                f"{FSTAB}:{number}: a line for /: systemd-remount-fs.service fails at each boot. "
                "Take it out: the initrd mounts the root"
            )
    if _text(lines, MACHINE_ID, content).strip() not in (b"", b"uninitialized"):
        yield f"{MACHINE_ID}:1: an ID, which all machines with this image have then. Empty the file"
    if lost := _lost(image):
        yield f"{INIT} leads to {lost}, which is not there: the image does not boot"
    if lines.closed:
        yield (
            f"{lines.closed} files that their owner may not read, {lines.first_closed} first: "
            "who can read the store can read their objects"
        )


class _Lines(labels.Lines):
    """And what only root's capabilities could have read."""

    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        super().__init__(wanted)
        self.closed = 0
        self.first_closed = ""

    def take(self, text: bytes) -> None:
        super().take(text)
        for match in _CLOSED.finditer(text):
            self.closed += 1
            self.first_closed = self.first_closed or os.fsdecode(match[1])


def _plain(text: bytes) -> bytes:
    """Of what a dump escapes."""

    def letter(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return _LETTERS.get(code) or (bytes.fromhex(code[1:].decode()) if code[1:] else code)

    return _ESCAPE.sub(letter, text)


def _text(lines: labels.Lines, path: str, content: Content) -> bytes:
    """The content of a regular file; empty where nobody knows it."""
    fields = lines.found.get(os.fsencode(path))
    if fields is None or not fields[2].startswith(b"10"):
        return b""
    digest = fields[10].decode("ascii")
    if digest == "-":
        return b"" if fields[9] == b"-" else _plain(fields[9])
    with suppress(OSError):
        return content(path, f"{digest[:2]}/{digest[2:]}")
    return b""


class _EnoughError(Exception):
    pass


def _target(image: Image, path: str) -> str | None:
    """Where a link leads; "": it is none. None: nothing of that name."""
    lines: list[bytes] = []

    def write(piece: bytes) -> None:
        lines.append(piece)
        if b"\n" in piece:
            raise _EnoughError  # a directory would be listed with all that is in it

    with suppress(_EnoughError):
        image.list(path, write)
    if not (text := b"".join(lines)):
        return None
    _, link, target = text.partition(b"\n")[0].partition(b"\t-> ")
    return os.fsdecode(_plain(target)) if link else ""


def _lost(image: Image) -> str | None:
    """What /sbin/init leads to in the end, and is not there. None: it is, or there is no init."""
    rest, at, links = ["sbin", "init"], list[str](), 0
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = at[:-1]
            continue
        target = _target(image, "/".join(["", *at, name]))
        if target is None:
            return "/".join(["", *at, name, *rest]) if links else None
        if not target:
            at.append(name)
            continue
        links += 1
        if links > _LINKS:
            return INIT
        at = [] if target.startswith("/") else at
        rest = [*target.split("/"), *rest]
    return None
