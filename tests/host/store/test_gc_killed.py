# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store gc` killed before each change that Python makes to the disk. test_gc_faults.py: at
each system call, by another program."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinit.host.store.image import missing, read
from tests.host.store.test_gc import add_image, collect, tree, whole

pytestmark = pytest.mark.usefixtures("alone")

CHANGES = ("mkdir", "rename", "unlink", "rmdir", "fsync")


def steps(store: Path, at: int, *options: object) -> int:
    """Collects in a process of its own, which is killed before the change to the disk number `at`;
    how many there were, or -1 where it was killed."""
    process = os.fork()
    if process == 0:
        count = [0]

        def wrap(real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **more: object) -> object:
                if count[0] == at:
                    os.kill(os.getpid(), 9)
                count[0] += 1
                return real(*arguments, **more)

            return call

        for name in CHANGES:
            setattr(os, name, wrap(getattr(os, name)))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = collect(store, *options)
        os._exit(count[0] if code == 0 and count[0] < 255 else 255)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return -1
    assert os.WEXITSTATUS(status) != 255
    return os.WEXITSTATUS(status)


@pytest.mark.parametrize("options", [(), ("--now",)])
def test_killed_at_every_change(store: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every image that has its name has all of its contents, and what a root needs is never
    touched; another run ends what was begun, or takes it back."""
    kept = add_image(store, [1, 2, 3], "kept")
    images = [kept, *(add_image(store, [number, number + 1]) for number in (2, 4, 5))]
    pristine = tmp_path / "pristine"
    shutil.copytree(store, pristine, symlinks=True)
    total = steps(store, 1 << 30, *options)
    after = set(tree(store))
    assert total > 12
    for at in range(total):
        for again in (None, "back"):
            shutil.rmtree(store)
            shutil.copytree(pristine, store, symlinks=True)
            assert steps(store, at, *options) == -1
            assert whole(store, kept)
            for digest in images:
                assert whole(store, digest) or not (store / "images" / digest).is_symlink()
            if again is None:
                assert collect(store, *options) == 0
                found = {
                    name.rpartition("Z/")[2] if "gc/" in name else name for name in tree(store)
                }
                assert found == {
                    name.rpartition("Z/")[2] if "gc/" in name else name for name in after
                }
            elif not options:
                keep = [word for digest in images for word in ("--keep", digest)]
                assert collect(store, *keep) == 0
                assert set(tree(store)) == set(tree(pristine))
            assert whole(store, kept)


def test_killed_in_a_store_of_objects_alone(tmp_path: Path) -> None:
    """An image goes before its contents there too: it has no other name than the object's."""
    repository, store = tmp_path / "r", tmp_path / "store"
    (repository / "objects").mkdir(parents=True)
    images = [add_image(repository, [number, number + 1]) for number in (1, 2, 5)]
    pristine = (repository / "objects").rename(tmp_path / "pristine")
    shutil.copytree(pristine, store)
    total = steps(store, 1 << 30)
    for at in range(total):
        shutil.rmtree(store)
        shutil.copytree(pristine, store)
        assert steps(store, at) == -1
        for digest in images:
            image = store / digest[:2] / digest[2:]
            assert not image.exists() or missing([read(image)], store)[1] == 0


def test_killed_while_things_come_back(store: Path, tmp_path: Path) -> None:
    """In two runs aside: the older has the names, the younger some of the contents."""
    one, two = add_image(store, [1, 2]), add_image(store, [2, 3])
    assert collect(store, "--keep", two) == 0
    [run] = (store / "gc").iterdir()
    run.rename(run.with_name("20200101T000000Z"))
    assert collect(store, "--grace", "9999d") == 0
    assert len(list((store / "gc").iterdir())) == 2
    pristine = tmp_path / "pristine"
    shutil.copytree(store, pristine, symlinks=True)
    keep = ("--keep", one, "--keep", two, "--grace", "9999d")
    total = steps(store, 1 << 30, *keep)
    assert whole(store, one)
    assert whole(store, two)
    for at in range(total):
        shutil.rmtree(store)
        shutil.copytree(pristine, store, symlinks=True)
        assert steps(store, at, *keep) == -1
        for digest in (one, two):
            assert whole(store, digest) or not (store / "images" / digest).is_symlink()
        assert collect(store, *keep) == 0
        assert whole(store, one)
        assert whole(store, two)
