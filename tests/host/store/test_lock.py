# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The lock on a store, as composefs-rs has it, held by each verb that works on one."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import lock
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused
from tests.host.store import written
from tests.host.store.played import HELLO, put

Capture = pytest.CaptureFixture[str]
VERBS = ["add", "seal", "missing", "check"]


@contextmanager
def held(directory: Path, how: int) -> Iterator[None]:
    """By another process, as far as the kernel is concerned: another open of it."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def arguments(verb: str, store: Path, hello: Path) -> list[str]:
    image = store.parent / "image"
    image.write_bytes(written.image(written.directory()))
    return {
        "add": ["add", "--object-store", str(store), str(hello)],
        "seal": ["seal", str(store)],
        "missing": ["missing", "--object-store", str(store), str(image)],
        "check": ["check", str(store)],
    }[verb]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_waits_for_who_takes_away(
    verb: str, store: Path, hello: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, HELLO)
    line = arguments(verb, store, hello)
    with held(store, fcntl.LOCK_SH):  # as cfsctl and bootc have it, all the time
        assert main(line) == 0
    assert "waiting" not in capsys.readouterr().err
    take = fcntl.flock
    holder = os.open(store, os.O_RDONLY)
    take(holder, fcntl.LOCK_EX)

    def flock(fd: int, how: int) -> None:
        if not how & fcntl.LOCK_NB:
            said = f"cfs-store: {store}: another process works on it: waiting for its lock\n"
            assert capsys.readouterr().err == said
            os.close(holder)
        take(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(line) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):  # so it has waited
        os.fstat(holder)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_holds_it_to_its_end(
    verb: str, store: Path, hello: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still held when the verb's own work is done, and let go after it."""
    put(store, HELLO)
    seen: list[int] = []
    take = fcntl.flock

    def flock(fd: int, how: int) -> None:
        take(fd, how)
        seen.append(how)
        probe = os.open(store, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            take(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(probe)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(arguments(verb, store, hello)) == 0
    assert seen == [fcntl.LOCK_SH | fcntl.LOCK_NB]
    with held(store, fcntl.LOCK_EX):
        pass


def test_one_alone(store: Path) -> None:
    opened = Store(store)
    with lock.exclusive(opened, print):
        for how in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            with pytest.raises(BlockingIOError), held(store, how):
                pass
    with lock.shared(opened, print), held(store, fcntl.LOCK_SH):
        pass


def test_the_objects_of_a_repository_have_its_lock(store: Path, tmp_path: Path) -> None:
    """Whoever names them is kept off by who collects in the repository."""
    link = tmp_path / "link"
    link.symlink_to(store / "objects")
    for path in (store / "objects", link):
        with (
            held(store, fcntl.LOCK_SH),
            lock.shared(Store(path), print),
            pytest.raises(BlockingIOError),
            held(store, fcntl.LOCK_EX),
        ):
            pass
    alone = tmp_path / "alone" / "objects"
    alone.mkdir(parents=True)
    assert lock.place(Store(alone)) == alone


def test_a_file_system_without_locks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes away there, so that others need no lock."""

    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.shared(Store(store), print):
        pass
    refusal = pytest.raises(Refused, match=r"no lock on this file system: .*ENOLCK")
    with refusal, lock.exclusive(Store(store), print):
        pass
