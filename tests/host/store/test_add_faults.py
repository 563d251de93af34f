# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add` killed at each system call that changes the disk: every image that has a name is
whole, every object is what its name says, nothing half-made has a name, and the next run completes
it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyinit.host.store.check import check
from pyinit.host.store.layout import Store
from tests.host.store import written
from tests.host.store.conftest import KILLED
from tests.host.store.played import digits_of
from tests.vm.once import REPOSITORY

_CODE = (
    "import sys; from pyinit.host.commands.cfs_store import main\n"
    "from pyinit.host.store import add\n"
    "if sys.argv[1] == 'named': add.has_procfs = lambda: False\n"
    "sys.exit(main(sys.argv[2:]))"
)
_SECONDS = 600
_CONTENTS = (b"one", b"two", b"three" * 100_000)


def image_of(contents: tuple[bytes, ...]) -> bytes:
    files = [
        (b"%d" % at, written.stored(digits_of(content), size=len(content)))
        for at, content in enumerate(contents)
    ]
    return written.image(written.directory(*files))


def execute(directory: Path, how: str, image: str, count: int, *before: str) -> int:
    paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    done = subprocess.run(
        [
            *before,
            sys.executable, "-B", "-S", "-c", _CODE, how, "add", "--quiet", "--verity", "off",
            "--create", "--object-store", str(directory / "store"),
            "--image", str(directory / image), *(str(directory / f"{at}") for at in range(count)),
        ],
        env={"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/bin:/bin"},
        capture_output=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode


def prepare(directory: Path, how: str, *, filled: bool) -> None:
    directory.mkdir()
    for at, content in enumerate(_CONTENTS):
        (directory / f"{at}").write_bytes(content)
    (directory / "image").write_bytes(image_of(_CONTENTS))
    (directory / "old").write_bytes(image_of(_CONTENTS[:1]))
    if filled:
        # One image that is whole, and shares an object with the one that comes.
        assert execute(directory, how, "old", 1) == 0


def links(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*") if path.is_symlink()}


def problems_of(directory: Path, before: int, how: str) -> tuple[list[str], bool]:
    """After a kill, and after the run that comes next; was the new image there before that?"""
    store = directory / "store"
    problems = []
    images, roots = links(store / "images"), links(store / "images/refs/cfs")
    if not roots <= images or len(images) < before:
        problems.append(f"{images}, {roots}")
    if how != "named":
        problems += [str(path) for path in directory.rglob(".*")]
    if (store / "objects").is_dir():
        report = check(Store(store), sealed=False, progress=lambda _, __: None)
        problems += map(str, report.faults)
        if len(images) > before and report.objects < len(_CONTENTS) + 1 + before:
            problems.append(f"an image and {report.objects} objects")
    if code := execute(directory, how, "image", len(_CONTENTS)):
        problems.append(f"the next run: {code}")
    else:
        report = check(Store(store), sealed=False, progress=lambda _, __: None)
        problems += map(str, report.faults)
        if report.images != 1 + before or not (store / "meta.json").is_file():
            problems.append(f"the next run: {report}")
    return problems, len(images) > before


@pytest.mark.parametrize(
    ("how", "filled"),
    [
        ("unnamed", True),
        ("unnamed", False),
        pytest.param("named", True, marks=pytest.mark.all_only),
    ],
)
def test_killed_anywhere(how: str, filled: bool, tmp_path: Path, killer: Path) -> None:
    """`named`: where a file cannot be without a name. Its temporary one may stay, see sweep.py."""
    problems: list[str] = []
    there = []
    for n in range(1, 200):
        directory = tmp_path / f"{n}"
        prepare(directory, how, filled=filled)
        code = execute(directory, how, "image", len(_CONTENTS), str(killer), f"{n}")
        if code == 0:
            break
        assert code == KILLED
        found, new = problems_of(directory, int(filled), how)
        problems += [f"{n}: {problem}" for problem in found]
        there.append(new)
        shutil.rmtree(directory)
    assert problems == []
    # An object each (a file, its content, the disk, its directory, its name), links, directories.
    assert len(there) > 20
    assert there == sorted(there), "named once, and for good"
    assert {False, True} == set(there)
