# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Does the policy in an image enforce SELinux, while its files have no labels? It will not come up.

Labels are attributes in the image: none can be added to it later. The question is that of the hooks
for initrds (dracut-module/): /etc/selinux/config says enforcing, and /usr has no label.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from pyinit.host.store.image import Image

CONFIG = "/etc/selinux/config"
WARNING = (
    f"{CONFIG} says enforcing, but /usr has no label: the root will not come up. Label the tree "
    "with setfiles before its image is made (docs/howto/selinux.md)"
)
# Those of distributions have a kilobyte of comments.
_LIMIT = 1 << 16
_ENFORCING = re.compile(rb"^SELINUX=enforcing", re.MULTILINE)
# As dump writes a short content.
_ESCAPE = re.compile(rb"\\n")
_LABEL = b"security.selinux="

ReadObject = Callable[[str], bytes]
"""Content by the name of its object below the directory of objects. OSError: it is not there."""


def missing(image: Image, content: ReadObject) -> bool:
    """Is WARNING to be said of this image? False where nobody knows. Refused: it is broken."""
    if not image.list(CONFIG, lambda _: None):
        return False
    lines = Lines((b"/usr", os.fsencode(CONFIG)))
    image.dump(lines.write)
    usr, config = (lines.found.get(path) for path in lines.wanted)
    if usr is None or config is None or any(field.startswith(_LABEL) for field in usr[11:]):
        return False
    text, digest = _ESCAPE.sub(b"\n", config[9]), config[10].decode("ascii")
    if digest != "-":
        try:
            text = content(f"{digest[:2]}/{digest[2:]}")
        except OSError:
            return False
    return _ENFORCING.search(text) is not None


def read(path: Path) -> bytes:
    """The beginning of a regular file. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read(_LIMIT)


class Lines:
    """Takes a dump in pieces, and keeps the fields of the wanted paths."""

    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        self.wanted = wanted
        self.found: dict[bytes, list[bytes]] = {}
        self._rest = b""

    def write(self, piece: bytes) -> None:
        """The next piece of the dump."""
        whole, end, self._rest = (self._rest + piece).rpartition(b"\n")
        if not end:
            return
        self.take(b"\n" + whole + b"\n")

    def take(self, text: bytes) -> None:
        """Whole lines, each after a newline."""
        for path in self.wanted:
            start = text.find(b"\n" + path + b" ") + 1
            if start:
                self.found[path] = text[start : text.index(b"\n", start)].split(b" ")
