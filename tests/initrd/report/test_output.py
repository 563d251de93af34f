# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines for people, and for the journal."""

import _cfs
import errno
import os
import posix
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.report import output, traceback
from tests.initrd.harness import no_disk, opens


def stream(difference: int = 0) -> bytes:
    status = os.fstat(2)
    return f"{status.st_dev}:{status.st_ino + difference}".encode()


def test_the_journal_lists_a_refusal_as_an_error_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", stream())
    output.err("done\n")
    output.error("refused: <1>\n")
    assert capfd.readouterr().err == "done\n<3>refused: <1>\n"
    traceback.report(ValueError("inside"))
    assert capfd.readouterr().err == "<3>ValueError: inside\n"
    output.error("one\ntwo\n")
    assert capfd.readouterr().err == "<3>one\n<3>two\n"


@pytest.mark.parametrize("value", [None, b"", b"1:2", b"\xff"])
def test_whoever_else_reads_stderr_sees_the_line_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], value: bytes | None
) -> None:
    """The variable is inherited by what a shell of the unit redirects elsewhere."""
    monkeypatch.delitem(posix.environ, b"JOURNAL_STREAM", raising=False)
    for given in (value, None if value is None else stream(1)):
        if given is not None:
            monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", given)
        output.error("refused\n")
    assert capfd.readouterr().err == "refused\n" * 2


def test_the_journal_is_asked_for_only_where_systemd_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(posix.environ, b"JOURNAL_STREAM", raising=False)
    with no_disk() as said:
        output.error("refused\n")
    assert said[2] == "refused\n"


def test_without_a_stderr_there_is_no_journal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def closed(_fd: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", stream())
    monkeypatch.setattr(posix, "fstat", closed)
    output.error("refused\n")
    assert capfd.readouterr().err == "refused\n"


@pytest.mark.parametrize("journal", [False, True])
def test_the_last_line_goes_where_the_machine_does_not_outrun_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    journal: bool,
) -> None:  # fmt: skip
    """Once: to the kernel's log in place of the journal, else to stderr."""
    kernel = tmp_path / "kmsg"
    kernel.touch()
    monkeypatch.setattr(output, "_KMSG", str(kernel))
    monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", stream(0 if journal else 1))
    with opens() as seen:
        output.last("name: reboot in 0 s\n")
    said = "name: reboot in 0 s\n"
    assert kernel.read_text() == ("<2>" + said if journal else "")
    # a terminal that is opened there does not become the one that controls us
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
    assert seen == ({str(kernel): flags} if journal else {})
    assert capfd.readouterr().err == ("" if journal else said)


def test_without_a_log_of_the_kernel_the_journal_gets_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "_KMSG", str(tmp_path / "none"))
    monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", stream())
    output.last("reboot\n")
    assert capfd.readouterr().err == "reboot\n"


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """stderr is /dev/console, and the kernel's knobs lie in this directory, as they are."""
    real_open, real_stat = posix.open, posix.fstat
    status = SimpleNamespace(st_rdev=os.makedev(5, 1), st_dev=0, st_ino=0)

    def fstat(fd: int) -> object:
        return status if fd == 2 else real_stat(fd)

    def opened(path: str, flags: int) -> int:
        return real_open(path.replace("/proc/sys/kernel", str(tmp_path)), flags)

    monkeypatch.setattr(posix, "fstat", fstat)
    monkeypatch.setattr(posix, "open", opened)
    (tmp_path / "printk").write_text("4\t4\t1\t7\n")  # quiet
    (tmp_path / "printk_devkmsg").write_text("ratelimit\n")
    return tmp_path


def test_where_the_console_shows_the_log(
    console: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line there and one on stderr would be one too many."""
    kernel = console / "kmsg"
    kernel.touch()
    monkeypatch.setattr(output, "_KMSG", str(kernel))
    assert output.log_is_seen()
    output.last("init: reboot\n")
    assert (kernel.read_text(), capfd.readouterr().err) == ("<2>init: reboot\n", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("printk", "2\t4\t1\t7\n"),  # loglevel=2: nothing of this level is shown
        ("printk", ""),
        ("printk", "x\n"),
        ("printk_devkmsg", "off\n"),  # what is written to /dev/kmsg is dropped
        ("printk_devkmsg", None),
    ],
)
def test_where_it_does_not(console: Path, name: str, value: str | None) -> None:
    (console / name).unlink()
    if value is not None:
        (console / name).write_text(value)
    assert not output.log_is_seen()


def test_another_terminal_shows_no_log() -> None:
    """Nor a pipe, nor the file of somebody who looks later."""
    assert not output.log_is_seen()


def test_what_was_written_before_is_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel writes past what a terminal has not sent. A terminal that sends nothing does not
    hold the end of the machine up."""
    left = [7, 7, 0, 7]
    slept: list[float] = []
    monkeypatch.setattr(_cfs, "terminal_pending", lambda fd: left.pop(0))
    monkeypatch.setattr(time, "sleep", slept.append)
    output.settle()
    assert (left, len(slept)) == ([7], 2)
    slept.clear()
    monkeypatch.setattr(_cfs, "terminal_pending", lambda fd: 7)
    output.settle()
    assert 0.5 <= sum(slept) <= 2


def test_an_answer_that_nobody_gets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a line for people that nobody gets is none."""

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(output.StdoutError, match=r"error: standard output: No space .*ENOSPC"):
        output.out("answer\n")
    output.err("line\n")
