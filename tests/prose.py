# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines of prose that are too long to be read: `make lint` prints them.

A table's row cannot be broken, nor can a link. A message that a command prints is one line on the
console; on a page its rest is indented below it.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = 100
ROOT = Path(__file__).resolve().parents[1]
# Where people read: these, and every README.
_PAGES = ("*.md", "docs/**/*.md", "dracut-module/**/*.md", "tests/**/*.md", ".github/*.md")
_LINK = re.compile(r"\]\([^)]*\)|https?://\S+")


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that are looked at."""
    return sorted({path for pattern in _PAGES for path in root.glob(pattern)})


def too_long(text: str) -> Iterator[tuple[int, int]]:
    """(number of the line, its columns)"""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|") or len(line) <= COLUMNS:
            continue
        # What a link leads to cannot be broken; the words around it can.
        if len(_LINK.sub("", line)) > COLUMNS or len(_LINK.findall(line)) > 1:
            yield number, len(line)


def main() -> int:
    """1 where there is such a line."""
    status = 0
    for page in pages():
        for number, columns in too_long(page.read_text()):
            sys.stderr.write(f"{page.relative_to(ROOT)}:{number}: {columns} columns\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
