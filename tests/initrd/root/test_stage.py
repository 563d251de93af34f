# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How a disk becomes read-only again; the mounts themselves are in tests/vm/state/failures.py."""

import errno
import os
from collections.abc import Callable

import pytest

from pyinit.initrd.kernel.mounting import NOEXEC, RDONLY
from pyinit.initrd.root import stage
from pyinit.initrd.root.stage import Stage


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


class Calls:
    """What a stage asks of the kernel: the names, and the arguments by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.arguments: dict[str, tuple[int, ...]] = {}
        for name, answer in {
            "namespace_enter": lambda: (0, 0, 0),
            "namespace_leave": lambda: None,
            "mount_attach": lambda: None,
            "mount_clone": lambda: os.open("/proc", os.O_PATH),
            "mount_set": lambda: None,
            "mount_remount": lambda: None,
        }.items():
            monkeypatch.setattr(f"_cfs.{name}", self._note(name, answer))

    def _note(self, name: str, answer: Callable[[], object]) -> Callable[..., object]:
        def call(*arguments: int) -> object:
            self.names.append(name)
            self.arguments.setdefault(name, arguments)
            return answer()

        return call


@pytest.mark.parametrize("lifted", [0, NOEXEC])
def test_a_disk_of_ours_is_seen_in_the_stage_only(
    monkeypatch: pytest.MonkeyPatch, lifted: int
) -> None:
    """And what is shown from it may execute programs again."""
    calls = Calls(monkeypatch)
    with Stage("/dev", 4711, lifted) as made:
        assert calls.names == ["namespace_enter", "mount_attach"]
        disk, directory = calls.arguments["mount_attach"]
        assert disk == 4711
        assert os.stat(directory).st_ino == os.stat("/dev").st_ino
        made.disk()
    assert calls.arguments["mount_set"][1:] == (0, RDONLY | lifted, False)
    assert calls.names[-2:] == ["mount_attach", "namespace_leave"]
