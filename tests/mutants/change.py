# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One change of a source file, and the list of those that no test can notice."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

EXCEPTIONS = Path(__file__).with_name("exceptions.toml")


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `end` of a file are replaced by `text`."""

    path: str
    """Below the repository."""
    line: int
    start: int
    end: int
    text: str
    was: str
    what: str
    """What the change does, for people: "always true", "left out"."""

    within: str = ""
    """The line of the source that it begins in, without the space around it."""

    def apply(self, source: bytes) -> bytes:
        """The changed file."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def __str__(self) -> str:
        was = " ".join(self.was.split())
        shown = was if len(was) <= 70 else was[:67] + "..."
        return f"{self.path}:{self.line}: `{shown}` {self.what}"


@dataclass(frozen=True)
class Exception_:  # noqa: N801 # the word of the list
    """A change that is no loss, and why."""

    path: str
    was: str
    what: str
    why: str
    within: str | None = None
    """Where the same text is there more than once: the line."""

    def covers(self, change: Change) -> bool:
        """Is it this change? It is told by its text: lines move."""
        same = " ".join(change.was.split()) == self.was
        if self.within not in (None, change.within):
            return False
        return same and (change.path, change.what) == (self.path, self.what)


def exceptions() -> list[Exception_]:
    """The list. KeyError where an entry lacks a field."""
    entries = tomllib.loads(EXCEPTIONS.read_text())["exception"]
    return [Exception_(e["path"], e["was"], e["what"], e["why"], e.get("within")) for e in entries]
