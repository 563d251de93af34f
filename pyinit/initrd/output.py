# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines for people: stdout and stderr, by descriptor (a core-only interpreter has no streams)."""

import posix


def out(text: str) -> None:
    """To stdout. OSError where that fails: an answer that nobody gets is no success."""
    _write(1, text)


def err(text: str) -> None:
    """To stderr; a closed stderr does not hide the exit code."""
    try:
        _write(2, text)
    except OSError:
        pass


def _write(fd: int, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[posix.write(fd, data) :]
