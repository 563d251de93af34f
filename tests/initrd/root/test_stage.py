# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How a disk becomes read-only again; the mounts themselves are in tests/vm/state/failures.py."""

import errno
import os
import posix
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pyinit.initrd.kernel.mounting import NODEV, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.report.errors import Refused, SystemFailure
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
    """What a stage asks of the kernel: the names, and by name the arguments of each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.arguments: dict[str, list[tuple[int, ...]]] = {}
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
            self.arguments.setdefault(name, []).append(arguments)
            return answer()

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.mark.parametrize("lifted", [0, NOEXEC])
def test_a_disk_of_ours_is_seen_in_the_stage_only(calls: Calls, lifted: int) -> None:
    """And what is shown from it may execute programs again."""
    with Stage("/dev", 4711, lifted) as made:
        assert calls.names == ["namespace_enter", "mount_attach"]
        [(disk, directory)] = calls.arguments["mount_attach"]
        assert disk == 4711
        assert os.stat(directory).st_ino == os.stat("/dev").st_ino
        made.disk()
    assert calls.arguments["mount_set"][0][1:] == (0, RDONLY | lifted, False)
    assert calls.names[-2:] == ["mount_attach", "namespace_leave"]


def test_a_disk_of_others_is_left_where_it_is(calls: Calls) -> None:
    with Stage("/dev"):
        pass
    assert calls.names == ["namespace_enter", "namespace_leave"]


def test_of_two_failures_the_first_is_told(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_CHROOT no stage can be left, and each refusal would be called setns."""

    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("_cfs.namespace_leave", fail)
    with pytest.raises(Refused, match="open: /x: the cause"), Stage("/dev"):
        raise Refused("open", "/x", "the cause")
    said = "attach: /dev: setns: Operation not permitted"
    with pytest.raises(SystemFailure, match=said), Stage("/dev"):
        pass


def test_a_stage_that_cannot_be_set_is_left_again(calls: Calls) -> None:
    """Else the program would say why in a namespace that nobody else sees."""
    with pytest.raises(Refused, match="attach: /dev/none: No such file"), Stage("/dev/none"):
        pass
    assert calls.names == ["namespace_enter", "namespace_leave"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EPERM, r"attach: /dev: Operation not permitted \(EPERM\), expected CAP_SYS_ADMIN"),
        (errno.ENOSYS, "attach: /dev: this kernel, or a seccomp filter, has no unshare or mount"),
        (errno.ENOSPC, r"attach: /dev: No space left on device \(ENOSPC\), expected a mount name"),
    ],
)
def test_no_namespace_is_no_fault_of_the_disk(
    monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def enter() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("_cfs.namespace_enter", enter)
    with pytest.raises(SystemFailure, match=said), Stage("/dev"):
        pass


def test_what_a_running_system_forbids_is_lifted_in_the_stage(calls: Calls) -> None:
    with Stage("/dev") as made:
        before = made.base
        made.strip()
        [(disk, *attributes)] = calls.arguments["mount_set"]
        assert attributes == [0, RDONLY | NOSUID | NODEV | NOEXEC, False]
        assert calls.arguments["mount_attach"] == [(disk, before)]
        assert made.base != before  # what lies there now, and not what it covers


def fail(made: Stage) -> None:
    """Once the disk was wanted twice."""
    assert made.disk() == made.disk()
    raise RuntimeError


@pytest.mark.parametrize(("flags", "writable"), [(0, []), (os.ST_RDONLY, [True, False])])
def test_a_disk_that_was_read_only_is_so_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, flags: int, writable: list[bool]
) -> None:
    found = SimpleNamespace(f_flag=flags | os.ST_NOSUID)
    monkeypatch.setattr(posix, "fstatvfs", lambda _: found)
    with pytest.raises(RuntimeError), Stage("/dev") as made:
        fail(made)
    assert [asked for _, asked in calls.arguments.get("mount_remount", [])] == writable
    assert len(calls.arguments["mount_clone"]) == 1


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (errno.EACCES, r"the disk is write-protected: Permission denied \(EACCES\)"),
        (errno.EROFS, r"Read-only file system \(EROFS\)"),
    ],
)
def test_a_disk_that_cannot_be_made_writable(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, number: int, found: str
) -> None:
    """And that need not be made read-only again."""

    def remount(_fd: int, writable: bool) -> None:
        assert writable
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(posix, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    monkeypatch.setattr("_cfs.mount_remount", remount)
    said = f"^refused: state: /dev: {found}, expected a disk that can be written to$"
    with pytest.raises(Refused, match=said), Stage("/dev") as made:
        made.disk()


def test_descriptors_that_cannot_be_told_are_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is left out would be closed, or stay open."""

    def fstat(_fd: int) -> None:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(posix, "fstat", fstat)
    with pytest.raises(OSError, match="x"):
        stage._descriptors()
