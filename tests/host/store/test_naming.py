# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Copies on their way to their names: what has none in the end is closed, and leaves nothing."""

import _cfshost
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from pyinit.host.store.add import Adder
from pyinit.host.store.layout import Store
from pyinit.host.store.naming import Copy

MANY = 600  # more than one thread names
SHA256 = 1


@pytest.fixture
def objects(store: Path) -> Iterator[int]:
    fd = os.open(store / "objects", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def copies(objects: int, count: int, *, temporary: bool) -> list[Copy]:
    made = []
    for number in range(count):
        name = f".{number}.tmp" if temporary else ""
        flags = os.O_CREAT | os.O_EXCL if temporary else os.O_TMPFILE
        fd = os.open(name or ".", flags | os.O_RDWR, 0o644, dir_fd=objects)
        os.write(fd, b"%d" % number)
        made.append(Copy(fd, name, f"source {number}", SHA256, number.to_bytes(32, "big")))
    return made


def left(objects: int) -> list[str]:
    return [name for name in os.listdir(objects) if name.startswith(".")]


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("temporary", [False, True])
def test_all_get_their_names(objects: int, store: Path, temporary: bool) -> None:
    before = opened()
    made = copies(objects, MANY, temporary=temporary)
    os.mkdir("00", dir_fd=objects)
    assert _cfshost.give_names(objects, made, 3) == [0] * MANY
    assert [(copy.fd, copy.temporary) for copy in made] == [(-1, "")] * MANY
    assert (opened(), left(objects)) == (before, [])
    for number, copy in enumerate(made):
        assert (store / "objects" / copy.name).read_bytes() == b"%d" % number


@pytest.mark.parametrize("temporary", [False, True])
def test_after_a_fault_nothing_is_left(objects: int, temporary: bool) -> None:
    """The directory for them is missing."""
    before = opened()
    made = copies(objects, MANY, temporary=temporary)
    found = _cfshost.give_names(objects, made, 3)
    assert set(found) == {errno.ENOENT, errno.ECANCELED}
    assert [(copy.fd, copy.temporary) for copy in made] == [(-1, "")] * MANY
    assert (opened(), left(objects)) == (before, [])


@pytest.mark.parametrize("temporary", [False, True])
def test_an_interrupt_while_the_thread_starts(
    objects: int, store: Path, temporary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has given it the copies yet."""
    start = Thread.start

    def begin(thread: Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    before = opened()
    made = copies(objects, 5, temporary=temporary)
    monkeypatch.setattr(Thread, "start", begin)
    with pytest.raises(KeyboardInterrupt), Adder(Store(store), "off").naming(objects, 9) as naming:
        naming.put(made)
    assert (opened(), left(objects)) == (before, [])
