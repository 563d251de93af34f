# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Removal while the boot goes on; in a boot: tests/vm/state/inherited.py."""

import contextlib
import errno
import os
import posix
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinit.initrd.state import copying, leftovers


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """Other tests of this process look whether they have one."""
    yield
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@pytest.fixture
def parent(tmp_path: Path) -> int:
    for name in ("this-boot", "one", "two"):
        (tmp_path / name / "below").mkdir(parents=True)
    return os.open(tmp_path, os.O_RDONLY)


def until_alone(place: Path) -> None:
    """Waits until only the directory of this boot is left."""
    end = time.monotonic() + 60
    while os.listdir(place) != ["this-boot"]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_all_but_this_boots_goes_by_a_process_that_nobody_waits_for(
    parent: int, tmp_path: Path
) -> None:
    """It holds none of our descriptors: a pipe has its end when we are gone."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        leftovers.remove_later(parent, "this-boot")
        os._exit(7)  # the boot goes on
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os.read(reader, 1) == b""
    os.close(reader)
    until_alone(tmp_path)
    assert (tmp_path / "this-boot" / "below").exists()


def test_no_service_is_left_that_systemd_would_end(
    parent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen with systemd 257: it stopped the unit of the initrd, and the removal with it."""
    assert leftovers._TOPMOST_GROUP == "/sys/fs/cgroup/cgroup.procs"
    assert leftovers._SESSION_NICENESS == "/proc/self/autogroup"
    group, session = files = [tmp_path / "this-boot" / name for name in ("group", "session")]
    for file in files:
        file.touch()
    monkeypatch.setattr(leftovers, "_TOPMOST_GROUP", str(group))
    monkeypatch.setattr(leftovers, "_SESSION_NICENESS", str(session))
    leftovers.remove_later(parent, "this-boot")
    until_alone(tmp_path)
    assert (group.read_bytes(), session.read_bytes()) == (b"0", b"10")


def test_no_control_groups_are_no_reason_to_leave_it(
    parent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_TOPMOST_GROUP", str(tmp_path / "this-boot/nothing"))
    leftovers.remove_later(parent, "this-boot")
    until_alone(tmp_path)


def test_no_process_where_there_is_nothing_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "this-boot").mkdir()
    monkeypatch.setattr(posix, "fork", lambda: pytest.fail("forked"))
    leftovers.remove_later(os.open(tmp_path, os.O_RDONLY), "this-boot")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EAGAIN, "no"), "warning: what earlier boots left stays: no (EAGAIN)\n"),
        (MemoryError(), "warning: what earlier boots left stays: out of memory\n"),
    ],
)
def test_a_failure_does_not_stop_the_boot(
    parent: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    def fork() -> int:
        raise error

    monkeypatch.setattr(posix, "fork", fork)
    leftovers.remove_later(parent, "this-boot")
    assert capfd.readouterr().err == said


def test_one_that_stays_does_not_keep_the_others(
    parent: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    remove = copying.remove

    def some(name: str, fd: int) -> None:
        if name == "one":
            raise OSError(errno.EPERM, "no")
        remove(name, fd)

    monkeypatch.setattr(copying, "remove", some)
    leftovers.remove(parent, "this-boot")
    assert sorted(os.listdir(tmp_path)) == ["one", "this-boot"]
    assert capfd.readouterr().err == "warning: one of an earlier boot stays: no (EPERM)\n"
