# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store gc` beside what runs: an add, mounts, and records of the next root. All of them are
processes, and one of two is held at each system call that changes the disk while the other runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinit.initrd.handover import status
from tests.host.store import written
from tests.host.store.processes import (
    Held,
    Process,
    apart,
    can_mount,
    cfs_store,
    collect,
    mounted,
)
from tests.host.store.test_gc import add_image, content, digits, tree, whole
from tests.host.store.written import directory, stored

mounting = pytest.mark.skipif(not can_mount(), reason="no mounts here")


@pytest.fixture
def store() -> Iterator[Path]:
    """In memory where that can be: a sync waits for all that others write to the disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        path = Path(name) / "store"
        (path / "objects").mkdir(parents=True)
        (path / "images").mkdir()
        yield path


class Copies:
    """The same store, again and again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._pristine = shutil.copytree(store, store.parent / "pristine", symlinks=True)

    def __iter__(self) -> Iterator[int]:
        """Numbers of system calls; who iterates ends it."""
        for number in range(1, 200):
            yield number
            shutil.rmtree(self.store)
            shutil.copytree(self._pristine, self.store, symlinks=True)


def image_and_contents(place: Path) -> tuple[str, list[Path]]:
    """Of two files that are objects of the store already, which no image needs: its digest, and
    what is added."""
    names = [(b"f%d" % number, stored(digits(content(number)))) for number in (1, 2)]
    data = written.image(directory(*names))
    files = [place / f"f{number}" for number in (1, 2)]
    for number, file in enumerate(files, 1):
        file.write_bytes(content(number))
    (place / "image").write_bytes(data)
    return digits(data), files


@pytest.mark.parametrize("held", ["add", "gc"])
def test_an_add(store: Path, tmp_path: Path, killer: Path, held: str) -> None:
    """Either waits for the other: nothing that add has found there goes before its image has a
    name."""
    add_image(store, [1, 2, 3])
    digest, files = image_and_contents(tmp_path)
    add = cfs_store(
        "add", "--verity", "off", "--object-store", store, "--image", tmp_path / "image", *files
    )
    gc = collect(store, "--now")
    one, two = (add, gc) if held == "add" else (gc, add)
    waited = 0
    for number in Copies(store):
        first = Held(killer, number, one)
        is_held = first.is_held()
        second = Process(two)
        waited += second.waits()
        assert first.end() == 0, number
        assert second.end() == 0, number
        assert whole(store, digest), number
        assert digits(content(3)) not in "".join(tree(store)).replace("/", "")
        if not is_held:
            break
    assert waited > 12


@mounting
def test_mounts_that_are_there(store: Path, tmp_path: Path) -> None:
    used, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    gc = collect(store, "--now")
    with mounted(used, tmp_path / "place"):
        assert Process(gc).end() == 0
        assert whole(store, used)
        assert not (store / "images" / gone).is_symlink()
    assert Process(gc).end() == 0
    assert not tree(store)


@mounting
def test_a_mount_that_comes_meanwhile(store: Path, tmp_path: Path, killer: Path) -> None:
    """What it needs is there again at once, or lies aside until gc comes by."""
    used = add_image(store, [1, 2])
    gc = collect(store)
    at_once = []
    for number in Copies(store):
        process = Held(killer, number, gc)
        if not process.is_held():
            assert process.end() == 0
            break
        with mounted(used, tmp_path / "place"):
            assert process.end() == 0, number
            at_once.append(whole(store, used))
            assert Process(gc).end() == 0, number
            assert whole(store, used), number
    assert at_once.count(True) > 6, "held before the second look at the roots"


@mounting
def test_the_next_root(store: Path, tmp_path: Path, killer: Path) -> None:
    """A soft reboot to it is prepared: before, or while gc is held."""
    used, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    run = tmp_path / "run"
    record = run / Path(status.NEXT).relative_to("/run")
    record.parent.mkdir(parents=True)
    within = [*apart('mount --bind "$1" /run; shift; exec "$@"'), str(run)]
    prepared = status.to_json({"digest": f"sha256:{used}", "source": "soft-reboot"})
    gc = [*within, *collect(store)]
    at_once = []
    for number in Copies(store):
        record.write_text(prepared)
        assert Process(gc).end() == 0
        assert whole(store, used)
        assert not (store / "images" / gone).is_symlink()
        record.unlink()
        process = Held(killer, number, collect(store), within)
        is_held = process.is_held()
        record.write_text(prepared)
        assert process.end() == 0, number
        if not is_held:
            break
        at_once.append(whole(store, used))
        assert Process(gc).end() == 0, number
        assert whole(store, used), number
    assert at_once.count(True) > 6, "held before the second look at the roots"
