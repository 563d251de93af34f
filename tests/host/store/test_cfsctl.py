# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Repositories by composefs-rs' cfsctl go through add, check and gc, and cfsctl finds no fault.

Two are stored as cfsctl made them (make_oci.py, tests/vm/state/make_bootc.sh), with what its own gc
leaves. With `--all` the real program looks at each step too: from PATH, or built by cargo.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from tests.host.store.test_gc import collect, tree
from tests.vm import peer
from tests.vm.once import REPOSITORY

pytestmark = pytest.mark.usefixtures("alone")
AT_HAND = shutil.which("cfsctl") or peer.cargo()
all_only = pytest.mark.all_only
needs_cfsctl = pytest.mark.skipif(not AT_HAND, reason="neither cfsctl nor cargo, to build it")
CONTAINERS = Path(__file__).with_name("oci.tar.gz")
IMAGES = REPOSITORY / "tests/vm/state/bootc.tar.gz"
Look = Callable[[Path], None]


def cfsctl(store: Path, *arguments: str | Path) -> str:
    command = [peer.cfsctl(), "--insecure", "--repo", store, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=300
    ).stdout


def fsck(store: Path) -> None:
    """An exit code that is not 0 comes out."""
    cfsctl(store, "fsck")
    cfsctl(store, "oci", "fsck")


@pytest.fixture(params=["stored", pytest.param("real", marks=(all_only, needs_cfsctl))])
def look(request: pytest.FixtureRequest) -> Look:
    """What looks at a repository after each step."""
    return fsck if request.param == "real" else lambda _: None


@pytest.fixture
def containers(tmp_path: Path) -> tuple[Path, set[str]]:
    """One that has pulled two containers, of which one has lost its tag, and what gc leaves."""
    subprocess.run(["tar", "-C", tmp_path, "-xzf", CONTAINERS], check=True, timeout=60)
    return tmp_path / "composefs", set((tmp_path / "collected").read_text().split())


@pytest.fixture
def another(tmp_path: Path) -> tuple[Path, str]:
    """With the same algorithm, and the digits of its only image."""
    place = tmp_path / "another"
    place.mkdir()
    subprocess.run(["tar", "-C", place, "-xzf", IMAGES], check=True, timeout=60)
    [image] = os.listdir(place / "composefs/images")
    return place / "composefs", image


def add(store: Path, source: Path, image: str, *more: str) -> int:
    added = ["--image", str(source / "images" / image), str(source)]
    return main(["add", "--verity", "off", *more, "--object-store", str(store), *added])


def test_add_check_gc(
    containers: tuple[Path, set[str]], another: tuple[Path, str], look: Look
) -> None:
    store, left = containers
    source, image = another
    assert set(tree(store)) > left
    assert main(["check", str(store)]) == 0
    look(store)
    assert add(store, source, image) == 0
    assert main(["check", str(store)]) == 0
    look(store)
    added = {name for name in tree(source) if name != "meta.json"}
    named = {f"images/refs/cfs/{image}"}
    # First aside, where neither is in the way of the other; then for good.
    for when in ((), ("--now",)):
        assert collect(store, *when) == 0
        there = {name for name in tree(store) if not name.startswith("gc/")}
        assert there == left | added | named
        look(store)
    assert main(["rm", "--no-uki", "--object-store", str(store), f"cfs/{image}"]) == 0
    assert collect(store, "--now") == 0
    assert set(tree(store)) == left
    assert main(["check", str(store)]) == 0
    look(store)


def test_into_a_new_repository(another: tuple[Path, str], tmp_path: Path, look: Look) -> None:
    source, image = another
    store = tmp_path / "new"
    assert add(store, source, image, "--create", "--hash", "sha512") == 0
    assert {**tree(source), f"images/refs/cfs/{image}": f"../../{image}"} == tree(store)
    assert (store / "meta.json").read_bytes() == (source / "meta.json").read_bytes()
    look(store)


@all_only
@needs_cfsctl
def test_each_collector_leaves_nothing_to_the_other(
    containers: tuple[Path, set[str]], tmp_path: Path
) -> None:
    store, _ = containers
    assert collect(store, "--now") == 0
    assert "Objects: 0 removed (0 bytes)" in cfsctl(store, "gc", "--dry-run")
    made = tmp_path / "made"
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    (root / "usr/file").write_text("content\n" * 100)
    cfsctl(made, "init", "--algorithm", "fsverity-sha256-12")
    assert main(["image", "--verity", "off", "--object-store", str(made), str(root)]) == 0
    before = tree(made)
    cfsctl(made, "create-image", root, "named")
    fsck(made)
    assert collect(made, "--now") == 0
    assert set(tree(made)) > set(before)
    cfsctl(made, "gc")
    assert set(tree(made)) > set(before)
    fsck(made)
    assert main(["check", str(made)]) == 0
