# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Where in a TOML file something stands. tomllib gives values and forgets their places."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

Position = tuple[int, int]
"""Line and column, from 1, in characters."""

# Every place where a key could begin, in strings and comments too.
_KEY = re.compile(r"""(?<![\w-])(?=([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'))""")
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def of_key(text: str, path: Sequence[str]) -> Position:
    """The first place that names the key at `path` of a valid document.

    The parser itself is asked: the key is where another name put in its place shows up at the
    same path. ValueError: there is no such key.
    """
    other = "k"
    while other in text:
        other += "k"
    wanted = (*path[:-1], other)
    for match in _KEY.finditer(text):
        start, end = match.span(1)
        if _decode(match[1]) != path[-1]:
            continue
        try:
            changed = tomllib.loads(text[:start] + other + text[end:])
        except tomllib.TOMLDecodeError:
            continue  # it was a value
        if _has(changed, wanted):
            return _position(text, start)
    raise ValueError(path)


def of_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[Position, str]:
    """Where the parser stopped, and its words without that."""
    words = str(error)
    found = _AT.search(words)
    if found is None or found[1] is None:
        position = _position(text, len(text))
    else:
        position = int(found[1]), int(found[2])
    return position, _AT.sub("", words)


def _decode(token: str) -> str | None:
    try:
        return next(iter(tomllib.loads(f"{token} = 0")))
    except tomllib.TOMLDecodeError:
        return None


def _has(data: object, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _position(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1
