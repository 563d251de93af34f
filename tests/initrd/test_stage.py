# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How a disk becomes read-only again; the mounts themselves are in tests/vm/state/failures.py."""

import errno
import os

import pytest

from pyinit.initrd import stage
from pyinit.initrd.stage import Stage


class Disk:
    """Answers to each remount with the next of `answers`, which are errors or 0."""

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers

    def remount(self, fd: int, writable: bool) -> None:
        os.fstat(fd)
        assert not writable
        answer = self.answers.pop(0)
        if answer:
            raise OSError(answer, os.strerror(answer))


@pytest.fixture
def failed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[Stage, set[int]]:
    """A stage whose disk was made writable, and the descriptors from before that, which those of
    `capfd` have to be among."""
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("time.sleep", lambda _: None)
    made = Stage("/disk")
    earlier = stage._descriptors()
    made._disk = os.open("/", os.O_PATH)
    made._earlier = earlier
    return made, earlier


def end(made: Stage, monkeypatch: pytest.MonkeyPatch, answers: list[int]) -> list[int]:
    """The answers that nobody asked for, after a failure."""
    disk = Disk(answers)
    monkeypatch.setattr("_cfs.mount_remount", disk.remount)
    made.__exit__(RuntimeError)
    return disk.answers


def test_all_that_was_opened_since_is_closed_first(
    failed: tuple[Stage, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, earlier = failed
    for path in ("/", "/dev/null", "/proc"):
        os.open(path, os.O_RDONLY)
    assert end(made, monkeypatch, [0]) == []
    assert stage._descriptors() == earlier | {made._disk}
    os.close(made._disk)


def test_a_busy_disk_is_tried_again_and_not_for_ever(
    failed: tuple[Stage, set[int]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made, _ = failed
    assert end(made, monkeypatch, [errno.EBUSY, errno.EBUSY, 0, 1]) == [1]
    assert capfd.readouterr().err == ""
    assert len(end(made, monkeypatch, [errno.EBUSY] * 999)) > 900
    assert capfd.readouterr().err == "warning: disk at /disk stays writable: in use\n"
    assert end(made, monkeypatch, [errno.EIO, 1]) == [1]
    said = "warning: disk at /disk stays writable: Input/output error (EIO)\n"
    assert capfd.readouterr().err == said
    os.close(made._disk)


def test_a_disk_that_was_writable_stays_so(
    failed: tuple[Stage, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = failed
    made._earlier = None
    assert end(made, monkeypatch, [1]) == [1]
    os.close(made._disk)
