# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images by peers, read by `cfs-store` and by composefs-info: every byte of what both say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.store.test_cfsctl import all_only, cfsctl, needs_cfsctl
from tests.host.store.test_image import A
from tests.host.store.test_image_mkcomposefs import ours, peer
from tests.vm.toolbox import Toolbox

IMAGES = Path(__file__).with_name("images.tar.gz")
VERSIONS = ["0", "1", "2"]


def same(toolbox: Toolbox, path: Path) -> bytes:
    """The dump. (Of a hard link `composefs-info ls` has the name alone, and ours what is there.)"""
    assert ours("objects", path) == peer(toolbox, "objects", path)
    said = ours("dump", path)
    assert said == peer(toolbox, "dump", path)
    return said


@pytest.mark.parametrize("version", VERSIONS)
def test_of_cfsctl(toolbox: Toolbox, tmp_path: Path, version: str) -> None:
    """As make_images.py had it make them."""
    subprocess.run(["tar", "-C", tmp_path, "-xzf", IMAGES], check=True, timeout=60)
    lines = same(toolbox, tmp_path / f"v{version}").splitlines()
    # In the oldest format of composefs-rs a whiteout is what it is: a name that hides.
    hidden = version == "2"
    assert len(lines) == 1 + 1 + 2 + 8 + 300 + 1 + 2 + 5 + 3 * 5 - hidden
    assert sum(line.split(b" ")[2].startswith(b"@") for line in lines) == 3 * 5
    assert sum(b" user.overlay.redirect=/x/y" in line for line in lines) == 5 + 3 * 3


_names = st.lists(
    st.integers(1, 255).filter(lambda c: c != 0x2F), min_size=1, max_size=40
).map(bytes).filter(lambda name: name not in (b".", b".."))  # fmt: skip
_xattrs = st.dictionaries(
    st.sampled_from(["user.a", "user.overlay.redirect", "user.overlay.metacopy", "user.b=c"]),
    st.binary(max_size=60),
    max_size=3,
)
_files = st.tuples(
    st.sampled_from(["file", "directory", "link", "fifo", "again"]),
    st.sampled_from([0, 1, 64, 65, 4096, 9000]),
    _xattrs,
)


def make(root: Path, files: dict[bytes, tuple[str, int, dict[str, bytes]]]) -> None:
    top = os.fsencode(root)
    earlier: list[bytes] = []
    for name, (kind, size, xattrs) in files.items():
        path = top + b"/" + name
        if kind == "again" and earlier:
            os.link(earlier[size % len(earlier)], path, follow_symlinks=False)
            continue
        if kind == "directory":
            os.mkdir(path)
        elif kind == "link":
            os.symlink(b"l" * (size // 3 + 1), path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            Path(os.fsdecode(path)).write_bytes(b"c" * size)
        if kind != "directory":
            earlier.append(path)
        for key, value in xattrs.items() if kind in ("file", "directory") else ():
            os.setxattr(path, key, value)


@all_only
@needs_cfsctl
@pytest.mark.parametrize("version", VERSIONS)
@given(files=st.dictionaries(_names, _files, max_size=12))
@settings(max_examples=30)
def test_any_tree_of_cfsctl(
    toolbox: Toolbox,
    tmp_path_factory: pytest.TempPathFactory,
    version: str,
    files: dict[bytes, tuple[str, int, dict[str, bytes]]],
) -> None:
    place = tmp_path_factory.mktemp("any")
    root, store = place / "root", place / "store"
    root.mkdir()
    make(root, files)
    cfsctl(store, "--erofs-version", version, "init", "--algorithm", "fsverity-sha256-12")
    cfsctl(store, "--erofs-version", version, "create-image", "--no-propagate-usr-to-root", root)
    [image] = (path for path in (store / "images").iterdir() if path.is_symlink())
    assert same(toolbox, image).count(b"\n") == 1 + len(files)
    shutil.rmtree(place)


@pytest.mark.parametrize("version", [0, 1])
def test_hard_links_of_what_has_all_xattrs_it_may(
    toolbox: Toolbox, tmp_path: Path, version: int
) -> None:
    """Each name's line has them all, and the links are told from the file by one field."""
    xattrs = [f"user.overlay.redirect={'r' * 200}", f"trusted.overlay.x={'t' * 200}"]
    xattrs += [f"user.{at}={chr(97 + at % 26) * 4000}" for at in range(7)]
    about = f"5000 100644 200 0 0 0 0.0 {A[:2]}/{A[2:]} - {A}"
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -", f"/a {about} {' '.join(xattrs)}"]
    lines += [f"/b{at} 0 @120000 1 0 0 0 0.0 /a - -" for at in range(199)]
    (tmp_path / "dump").write_text("\n".join(lines) + "\n")
    toolbox.run(
        "mkcomposefs", f"--min-version={version}", "--from-file", tmp_path / "dump",
        tmp_path / "image",
    )  # fmt: skip
    said = same(toolbox, tmp_path / "image").splitlines()
    assert len(said) == len(lines)
    assert all(line.count(b"user.overlay.redirect=rrr") == 1 for line in said[1:])


def test_a_debian_tree(toolbox: Toolbox, tmp_path: Path) -> None:
    """Of unpacked packages."""
    image = tmp_path / "image"
    toolbox.run("mkcomposefs", toolbox.tree, image)
    assert same(toolbox, image).count(b"\n") > 2000
