# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines for people, and for the journal."""

import errno
import os
import posix
from pathlib import Path

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


def test_an_answer_that_nobody_gets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a line for people that nobody gets is none."""

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(output.StdoutError, match=r"error: standard output: No space .*ENOSPC"):
        output.out("answer\n")
    output.err("line\n")
