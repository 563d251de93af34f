# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Lines for people, and for the journal."""

import errno
import os
import posix
from pathlib import Path

import pytest

from pyinit.initrd.report import output, traceback


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
    output.last("name: reboot in 0 s\n")
    said = "name: reboot in 0 s\n"
    assert kernel.read_text() == ("<2>" + said if journal else "")
    assert capfd.readouterr().err == ("" if journal else said)


def test_without_a_log_of_the_kernel_the_journal_gets_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "_KMSG", str(tmp_path / "none"))
    monkeypatch.setitem(posix.environ, b"JOURNAL_STREAM", stream())
    output.last("reboot\n")
    assert capfd.readouterr().err == "reboot\n"
