# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines for people: stdout and stderr, by descriptor (a core-only interpreter has no streams)."""

import _cfs
import posix
import time

from pyinit.initrd.report.errors import os_error

_KMSG = "/dev/kmsg"
_CONSOLE = 5 << 8 | 1  # /dev/console, as st_rdev
_CRIT = 2  # the level of what is written to the kernel's log
_SETTLE_ATTEMPTS, _SETTLE_SECONDS = 100, 0.01


class StdoutError(OSError):
    """What was asked for could not be written to stdout."""

    def __str__(self) -> str:
        return f"error: standard output: {os_error(self)}"


def out(text: str) -> None:
    """Writes to stdout. StdoutError where that fails."""
    try:
        _write(1, text)
    except OSError as error:
        raise StdoutError(error.errno, error.strerror) from None


def err(text: str) -> None:
    """Writes to stderr. A failure is ignored: the exit code says the same."""
    try:
        _write(2, text)
    except OSError:
        pass


def error(text: str) -> None:
    """Lines to stderr that say why nothing was done: the journal lists them as errors."""
    if _is_journal():
        text = "".join(f"<3>{line}\n" for line in text.split("\n")[:-1])  # sd-daemon(3)
    err(text)


def last(text: str) -> None:
    """A line before the machine ends. The journal would carry it to the console some time later,
    and ends with the machine: the kernel's log is there at once, and the journal reads it too."""
    if not ((_is_journal() or log_is_seen()) and _to_kernel(text)):
        err(text)


def log_is_seen() -> bool:
    """Does the kernel write its log to where stderr goes? Of two writers to one device each tears
    the other's lines, and what both say stands there twice.

    /dev/console is the device of the kernel's first console. Records of level `crit` come to it
    unless the level of the console, or the filter of /dev/kmsg, is set against that.
    """
    try:
        if posix.fstat(2).st_rdev != _CONSOLE:
            return False
        levels, allowed = _knob("printk"), _knob("printk_devkmsg")
        return int(levels.split()[0]) > _CRIT and allowed.strip() != b"off"
    except (OSError, ValueError, IndexError):
        return False


def settle() -> None:
    """Waits, a second at most, until the terminal has sent what was written to stderr: the kernel
    writes its log past it."""
    try:
        for _ in range(_SETTLE_ATTEMPTS):
            if _cfs.terminal_pending(2) == 0:
                return
            time.sleep(_SETTLE_SECONDS)
    except OSError:
        pass  # no terminal


def _knob(name: str) -> bytes:
    fd = posix.open(f"/proc/sys/kernel/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 256)
    finally:
        posix.close(fd)


def _to_kernel(text: str) -> bool:
    """One record of level `crit`, which "quiet" does not keep from the console."""
    settle()
    try:
        fd = posix.open(_KMSG, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOCTTY)
        try:
            posix.write(fd, b"<2>" + text.encode("ascii", "replace"))
        finally:
            posix.close(fd)
    except OSError:
        return False
    return True


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
