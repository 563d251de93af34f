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


def error(text: str) -> None:
    """Lines to stderr that say why nothing was done: the journal lists them as errors."""
    if _is_journal():
        text = "".join(f"<3>{line}\n" for line in text.split("\n")[:-1])  # sd-daemon(3)
    err(text)


def _is_journal() -> bool:
    """Is stderr what systemd has connected to the journal? (systemd.exec(5), $JOURNAL_STREAM)"""
    stream = posix.environ.get(b"JOURNAL_STREAM")
    if stream is None:
        return False
    try:
        status = posix.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}".encode("ascii")


def _write(fd: int, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[posix.write(fd, data) :]
