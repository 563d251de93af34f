# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The notices of others whose code is in the executable: who passes it on passes these on."""

import re
from pathlib import Path

# Under licenses of their own within CPython's source; the directories that the core is of.
_PLACES = ("Objects", "Python")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_GRANT = re.compile(r"permission|redistribution", re.IGNORECASE)

_HEAD = """\
The executable cfs-init is licensed as its project is, under Apache-2.0 OR MIT. Code of others is in
it. Their notices follow.
"""
_DISTRIBUTION = """\
CPython, and glibc. Both are the distribution's. Their notices, and where their source is, stand in
its packages of libpython and of the C library.
"""


class NoticesError(Exception):
    """A source without its notice."""


def of_source(tree: Path, musl: Path) -> str:
    """Of CPython's source in `tree`, and musl's in the file `musl`. NoticesError."""
    try:
        parts = [("CPython", (tree / "LICENSE").read_text("utf-8"))]
        for place in _PLACES:
            for path in sorted((tree / place).glob("*.c")):
                found = _granted(path.read_text("utf-8", "replace"))
                parts += [(f"CPython, {place}/{path.name}", text) for text in found]
        parts.append(("musl", musl.read_text("utf-8")))
    except OSError as error:
        raise NoticesError(f"a notice is missing: {error}") from None
    return _joined(parts)


def of_distribution() -> str:
    return _joined([("the distribution's libpython and libc", _DISTRIBUTION)])


def _granted(text: str) -> list[str]:
    """The comments that are a licence."""
    found = [comment[0] for comment in _COMMENT.finditer(text)]
    return [comment for comment in found if "Copyright" in comment and _GRANT.search(comment)]


def _joined(parts: list[tuple[str, str]]) -> str:
    return "\n".join([_HEAD, *(f"#### {name}\n\n{text.strip()}\n" for name, text in parts)])
