# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The progress of a command: lines where there is no terminal, a bar on one, nothing if quiet."""

import io
import sys
import time

import pytest

from pyinit.host.commands.progress import rates, tenths


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one number is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_after_a_second_then_after_twice_as_long(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with rates("cfs-x", "reading", quiet=False) as progress:
        for tenth in range(50):
            clock[0] = 100 + tenth / 10
            progress(tenth, tenth * 1_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "cfs-x: reading: 10 objects (10/s), 10 MB (10 MB/s)",
        "cfs-x: reading: 20 objects (10/s), 20 MB (10 MB/s)",
        "cfs-x: reading: 40 objects (10/s), 40 MB (10 MB/s)",
    ]


def test_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with tenths("cfs-x", "sealing", quiet=False) as progress:
        for done in range(1, 31):
            progress(done, 30)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"cfs-x: sealing: {done} of 30" for done in range(3, 31, 3)]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with rates("cfs-x", "reading", quiet=False) as progress:
        progress(1, 1_000_000)
    assert not terminal.getvalue()  # it took less than a second
    with tenths("cfs-x", "sealing", quiet=False) as progress:
        progress(30, 30)
    assert "30/30" in terminal.getvalue()


def test_quiet(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for quiet in (
        rates("cfs-x", "reading", quiet=True),
        tenths("cfs-x", "sealing", quiet=True),
    ):
        with quiet as progress:
            clock[0] += 10
            progress(1, 1)
    assert not terminal.getvalue()
