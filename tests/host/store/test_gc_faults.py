# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store gc` killed at each system call that changes the disk: every image that has its name
is whole, what a root needs is never touched, and the next run ends what was begun."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyinit.host.store.image import missing, read
from tests.host.store.conftest import KILLED
from tests.host.store.test_gc import add_image, tree, whole
from tests.vm.once import REPOSITORY

# Without the mounts and the records of this machine.
_CODE = (
    "import sys; from pyinit.host.commands.cfs_store import main\n"
    "from pyinit.host.store import mounts, records\n"
    "mounts.overlays = list; records.keep = lambda needed: None\n"
    "sys.exit(main(['gc', '--no-uki', *sys.argv[1:]]))"
)


def collect(store: Path, *options: str, before: tuple[str, ...] = ()) -> int:
    paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    return subprocess.run(
        [*before, sys.executable, "-B", "-S", "-c", _CODE, *options, str(store)],
        env={"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/bin:/bin"},
        capture_output=True, timeout=600, check=False,
    ).returncode  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--now",)])
def test_killed_anywhere(
    store: Path, tmp_path: Path, killer: Path, options: tuple[str, ...]
) -> None:
    kept = add_image(store, [1, 2, 3], "kept")
    images = [kept, add_image(store, [2, 3]), add_image(store, [4, 5])]
    pristine = tmp_path / "pristine"
    shutil.copytree(store, pristine, symlinks=True)
    states = []
    for n in range(1, 200):
        code = collect(store, *options, before=(str(killer), f"{n}"))
        if code == 0:
            break
        assert code == KILLED
        states.append(tree(store))
        assert whole(store, kept), n
        for digest in images:
            assert whole(store, digest) or not (store / "images" / digest).is_symlink(), n
        assert collect(store, *options) == 0, n
        assert whole(store, kept), n
        assert not any((store / "images" / digest).is_symlink() for digest in images[1:]), n
        shutil.rmtree(store)
        shutil.copytree(pristine, store, symlinks=True)
    # The first change is a directory, and the images' names go before anything else does.
    assert states[0] == tree(pristine)
    assert len(states) > 12


def test_killed_in_a_store_of_objects_alone(tmp_path: Path, killer: Path) -> None:
    """An image is named by its object there: it goes before its contents."""
    repository, store = tmp_path / "r", tmp_path / "store"
    (repository / "objects").mkdir(parents=True)
    images = [add_image(repository, [number, number + 1]) for number in (1, 2)]
    pristine = (repository / "objects").rename(tmp_path / "pristine")
    killed = 0
    for n in range(1, 200):
        shutil.copytree(pristine, store)
        code = collect(store, before=(str(killer), f"{n}"))
        if code == 0:
            break
        assert code == KILLED
        killed += 1
        for digest in images:
            image = store / digest[:2] / digest[2:]
            assert not image.exists() or missing([read(image)], store)[1] == 0, n
        shutil.rmtree(store)
    assert killed > 6
