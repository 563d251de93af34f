# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of layers killed at each system call that changes the disk, in whatever order
its threads make them: every image that has a name is whole, and the next run completes it."""

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pyinit.host.store.check import check
from pyinit.host.store.layout import Store
from tests.host.store.conftest import KILLED
from tests.host.store.layered import tar
from tests.host.store.test_add_faults import links
from tests.vm.once import REPOSITORY

_CODE = (
    "import sys; from pyinit.host.commands.cfs_store import main\n"
    "from pyinit.host.store import add, add_tree, descriptors\n"
    "if sys.argv[1] == 'named': add_tree.has_procfs = lambda: False\n"
    "if sys.argv[1] == 'closed': descriptors.BATCH, descriptors.OPEN = 1, 0\n"
    "sys.exit(main(sys.argv[2:]))"
)
_CONTENTS = (b"one" * 50, b"two" * 200_000, b"three" * 50)
_FILE = tarfile.REGTYPE
_LAYERS = (
    tar([("one", _FILE, {}, _CONTENTS[0]), ("two", _FILE, {}, _CONTENTS[1])]),
    tar([(".wh.two", _FILE, {}, b""), ("three", _FILE, {}, _CONTENTS[2])]),
)


def execute(directory: Path, how: str, count: int, *before: str) -> int:
    """With the first `count` layers."""
    paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    done = subprocess.run(
        [
            *before,
            sys.executable, "-B", "-S", "-c", _CODE, how, "image", "--quiet", "--verity", "off",
            "--create", "--object-store", str(directory / "store"),
            *(str(directory / f"{at}") for at in range(count)),
        ],
        env={"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/bin:/bin"},
        capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode


def prepare(directory: Path, how: str, *, filled: bool) -> None:
    directory.mkdir()
    for at, data in enumerate(_LAYERS):
        (directory / f"{at}").write_bytes(gzip.compress(data))
    if filled:
        assert execute(directory, how, 1) == 0


def problems_of(directory: Path, before: int, how: str) -> tuple[list[str], bool]:
    """After a kill, and after the run that comes next; was the new image there before that?"""
    store = directory / "store"
    problems = []
    images, roots = links(store / "images"), links(store / "images/refs/cfs")
    if not roots <= images or len(images) < before:
        problems.append(f"{images}, {roots}")
    left = [path for path in directory.rglob(".*") if path.is_file()]
    if how == "unnamed":
        problems += map(str, left)
    if (store / "objects").is_dir():
        report = check(Store(store), sealed=False, progress=lambda _, __: None)
        problems += map(str, report.faults)
        if len(images) > before and report.objects != len(_CONTENTS) + 1 + before:
            problems.append(f"an image and {report.objects} objects")
    for path in left:
        os.utime(path, (0, 0))
    code = execute(directory, how, len(_LAYERS))
    problems += [f"not swept: {path}" for path in directory.rglob(".*") if path.is_file()]
    report = check(Store(store), sealed=False, progress=lambda _, __: None)
    problems += map(str, report.faults)
    if code or report.images != 1 + before or report.objects != len(_CONTENTS) + 1 + before:
        problems.append(f"the next run: {code}, {report}")
    return problems, len(images) > before


@pytest.mark.parametrize(
    ("how", "filled"),
    [
        ("unnamed", True),
        ("closed", True),
        pytest.param("unnamed", False, marks=pytest.mark.all_only),
        pytest.param("named", True, marks=pytest.mark.all_only),
    ],
)
def test_killed_anywhere(how: str, filled: bool, tmp_path: Path, killer: Path) -> None:
    """`closed`: there may be no copy open that waits for its name."""
    problems: list[str] = []
    there = []
    for n in range(1, 200):
        directory = tmp_path / f"{n}"
        prepare(directory, how, filled=filled)
        code = execute(directory, how, len(_LAYERS), str(killer), f"{n}")
        if code == 0:
            break
        assert code == KILLED
        found, new = problems_of(directory, int(filled), how)
        problems += [f"{n}: {problem}" for problem in found]
        there.append(new)
        shutil.rmtree(directory)
    assert problems == []
    assert len(there) > 15
    # Its name is the last of all that is done but to make it durable.
    assert there[0] is False
    assert there[-1] is True
