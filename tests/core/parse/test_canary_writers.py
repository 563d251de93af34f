# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The file is the same one in images of mkcomposefs, of composefs-rs and of mkfs.erofs."""

import _cfshost
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.core.core import Core
from tests.core.parse.test_canary import DIGEST, Tree, by_the_rule, find, node, trees
from tests.host.store import written
from tests.host.store.written import SUPERBLOCK, changed
from tests.vm.toolbox import Toolbox


def _text(tree: Tree, start: str = "") -> Iterator[str]:
    """composefs-dump(5). An empty file is never in the store."""
    if not start:
        yield "/ 0 40755 2 0 0 0 0.0 - - -"
    for name, what in sorted(tree.items()):
        path = f"{start}/" + "".join(f"\\x{byte:02x}" for byte in name)
        if isinstance(what, Mapping):
            yield f"{path} 0 40755 2 0 0 0 0.0 - - - user.a=b"
            yield from _text(what, path)
        elif what is None:
            yield f"{path} 1 100644 1 0 0 0 0.0 - x - security.selinux=label"
        else:
            where = f"{DIGEST[:2]}/{DIGEST[2:]} - {DIGEST}"
            yield f"{path} {what or 1} 100644 1 0 0 0 0.0 {where} security.selinux=label"


@settings(max_examples=15, deadline=None)
@given(trees)
def test_images_of_mkcomposefs(core: Core, tmp_path_factory: Any, tree: Tree) -> None:
    path = tmp_path_factory.mktemp("image")
    (path / "dump").write_text("\n".join(_text(tree)) + "\n")
    Toolbox().run("mkcomposefs", "--from-file", path / "dump", path / "image")
    assert find(core, (path / "image").read_bytes()) == by_the_rule(tree)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_images_in_the_first_format_of_composefs_rs(core: Core, tree: Tree) -> None:
    """By our writer, which tests/host/store/test_formats.py compares with theirs."""
    made = _cfshost.make_image(("\n".join(_text(tree)) + "\n").encode(), 2, 2)
    assert find(core, made) == by_the_rule(tree)


@pytest.mark.parametrize("block", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("options", [[], ["-Enoinline_data"]])
def test_images_of_mkfs_erofs(core: Core, tmp_path: Path, block: int, options: list[str]) -> None:
    """Blocks of other sizes, directories in blocks of their own, of many blocks."""
    tree: Tree = {
        b"a": {b"d%03d" % number: {b"e": {}} for number in range(100)},
        b"b": {b"%0100d" % number: None for number in range(90)} | {b"z": {b"f": None}},
        b"c": {b"x" * 200 + b"%d" % number: {} for number in range(40)} | {b"y": {b"w": 5}},
    }
    _make(tmp_path / "tree", tree)
    Toolbox().run(
        "mkfs.erofs", "--quiet", f"-b{block}", *options, tmp_path / "image", tmp_path / "tree"
    )
    data = (tmp_path / "image").read_bytes()
    assert data[SUPERBLOCK + 12] == block.bit_length() - 1
    assert find(core, data) == by_the_rule(tree) == b"c/y/w"


def _make(place: Path, tree: Tree) -> None:
    place.mkdir()
    for name, what in tree.items():
        path = place / name.decode()
        if isinstance(what, Mapping):
            _make(path, what)
            continue
        path.write_bytes(bytes(what or 0))
        if what is not None:
            try:
                os.setxattr(path, "trusted.overlay.metacopy", b"")
            except OSError as error:
                pytest.skip(f"no trusted.* attributes here: {error}")


def test_more_entries_than_a_window_holds(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 KiB: the entries before the names of one take three times what is read at once,
    and some begin at its end."""
    monkeypatch.setattr(written, "BLOCK", 1 << 14)
    tree: Tree = {b"%03d" % number: {} for number in range(1000)} | {b"999": {b"f": 1}}
    data = changed(written.image(node(tree, blocks=True)), SUPERBLOCK + 12, b"\x0e")
    assert find(core, data) == b"999/f"
