# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is asked of the kernel, and what is said; tests/vm/test_init.py sees machines end."""

import errno
import os

import pytest

from pyinit.initrd.handover import ending
from pyinit.initrd.report import output
from pyinit.initrd.source.config import Config


@pytest.mark.parametrize(
    ("failure", "command"),
    [("reboot", 0x01234567), ("poweroff", 0x4321FEDC), ("shell", 0x01234567)],
)
def test_the_configured_action(
    failure: str, command: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    slept: list[float] = []
    monkeypatch.setattr("_cfs.reboot", asked.append)
    monkeypatch.setattr("time.sleep", slept.append)
    settings = Config()
    settings.failure = failure
    settings.failure_delay = 7
    ending.end("name", settings)
    assert (asked, slept) == ([command], [7])
    assert ending.wants_shell(settings) == (failure == "shell")
    said = "poweroff" if failure == "poweroff" else "reboot"
    assert capfd.readouterr().err == f"name: {said} in 7 s\n"


def test_it_is_said_where_the_end_does_not_outrun_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(output, "last", said.append)
    monkeypatch.setattr("_cfs.reboot", lambda _: said.append("ended"))
    monkeypatch.setattr("time.sleep", lambda _: said.append("slept"))
    ending.end("name", Config())
    assert said == ["name: reboot in 10 s\n", "slept", "ended"]


def test_a_kernel_that_refuses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_command: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("_cfs.reboot", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)
    ending.end("name", Config())
    assert capfd.readouterr().err.endswith("name: reboot: Operation not permitted (EPERM)\n")
