# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The traceback of the frozen executable, against the standard library's."""

import os
import traceback
from pathlib import Path

import pytest

from pyinit.initrd.report import output
from pyinit.initrd.report import traceback as ours
from pyinit.initrd.report.errors import EXIT_INTERNAL
from pyinit.initrd.report.traceback import format_exception
from tests.initrd.harness import opens


class Multi(Exception):
    pass


def fail(kind: str) -> None:
    try:
        int("x")
    except ValueError as error:
        if kind == "cause":
            raise Multi("second") from error
        if kind == "context":
            raise Multi("second")  # noqa: B904
        if kind == "hidden":
            raise Multi("second") from None
        if kind == "without words":
            raise Multi from None
        raise


@pytest.mark.parametrize("kind", ["cause", "context", "hidden", "without words", "plain"])
def test_it_says_what_the_standard_library_says(kind: str) -> None:
    """Frame by frame, less the lines of source, which an initrd does not hold."""
    with pytest.raises((Multi, ValueError)) as raised:
        fail(kind)
    own = format_exception(raised.value)
    theirs = "".join(traceback.format_exception(raised.value)).splitlines()
    theirs = [line for line in theirs if not line.startswith("    ")]
    # Theirs names the module of an exception class.
    assert own == [line.replace(f"{__name__}.Multi", "Multi") for line in theirs]


def test_a_chain_without_end_ends() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 100):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    lines = format_exception(error)
    assert lines[-1] == "ValueError: 99"
    assert len([line for line in lines if line.startswith("ValueError")]) == 16


def test_nothing_of_it_can_drive_a_terminal() -> None:
    (line,) = format_exception(ValueError("a\nb\x1b[2J\udcff\u2028"))
    assert line == "ValueError: a\\nb\\x1b[2J\\udcff\\u2028"
    assert line.isascii()


def test_a_recursion_without_end_keeps_both_ends() -> None:
    """Where it came from, and where it stopped."""

    def sink(depth: int) -> None:
        if depth:
            sink(depth - 1)
        raise Multi

    with pytest.raises(Multi) as raised:
        sink(99)
    frames = format_exception(raised.value)[1:-1]
    assert len(frames) == 64 + 1
    assert frames[0].endswith("in test_a_recursion_without_end_keeps_both_ends")
    assert frames[32] == "  [37 frames left out]"
    assert frames[-1].endswith("in sink")


@pytest.fixture
def kmsg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the kernel's log."""
    path = tmp_path / "kmsg"
    path.touch()
    monkeypatch.setattr(ours, "_KMSG", str(path))
    return path


@pytest.mark.parametrize(
    ("pid", "boot", "in_log"), [(2, False, False), (2, True, True), (1, False, True)]
)
def test_the_log_of_the_kernel_is_for_boots(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kmsg: Path, pid: int,
    boot: bool, in_log: bool,
) -> None:  # fmt: skip
    """On the console it is told in any case."""
    monkeypatch.setattr("posix.getpid", lambda: pid)
    assert ours.report(ValueError("x"), boot) == EXIT_INTERNAL
    assert capfd.readouterr().err == "ValueError: x\n"
    assert kmsg.read_text() == ("<2>cfs-init: ValueError: x\n" if in_log else "")


def test_a_line_is_a_record_that_the_kernel_takes_whole(kmsg: Path) -> None:
    with opens() as seen:
        assert ours.log_lines(["\xe9" * 2000, "second", ""])
    records = kmsg.read_bytes().splitlines()
    start = b"<2>cfs-init: "
    assert all(record.startswith(start) and len(record) < 960 for record in records)
    texts = [record.removeprefix(start) for record in records]
    assert (b"".join(texts[:3]), texts[3:]) == (b"?" * 2000, [b"second", b""])
    # a terminal that is opened there does not become the one that controls us
    assert seen == {str(kmsg): os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY}


def test_without_that_log_it_goes_on(kmsg: Path) -> None:
    kmsg.unlink()
    assert not ours.log_lines(["first"])
    assert not kmsg.exists()


def test_more_records_than_the_kernel_takes_of_one(
    monkeypatch: pytest.MonkeyPatch, kmsg: Path
) -> None:
    """Ten of each who opens it: the end of a traceback was not there."""
    written: dict[int, int] = {}
    opened = 0

    def open_it(*_: object) -> int:
        nonlocal opened
        opened += 1
        return opened

    def write(fd: int, data: bytes) -> int:
        written[fd] = written.get(fd, 0) + 1
        return len(data)

    monkeypatch.setattr("posix.open", open_it)
    monkeypatch.setattr("posix.write", write)
    monkeypatch.setattr("posix.close", lambda _: None)
    ours.log_lines([str(number) for number in range(30)])
    assert sum(written.values()) == 30
    assert max(written.values()) <= 10


@pytest.mark.parametrize(
    ("seen", "there", "said"), [(True, True, ""), (True, False, "x"), (False, True, "x")]
)
def test_where_the_console_shows_the_log_it_is_told_there_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kmsg: Path, seen: bool,
    there: bool, said: str,
) -> None:  # fmt: skip
    if not there:
        kmsg.unlink()
    monkeypatch.setattr(output, "log_is_seen", lambda: seen)
    ours.report(ValueError("x"), boot=True)
    assert capfd.readouterr().err == (f"ValueError: {said}\n" if said else "")
    ours.report(ValueError("y"))
    assert capfd.readouterr().err == "ValueError: y\n"
