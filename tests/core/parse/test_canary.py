# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The file that is read before an image is a root, found in the image's bytes.

The rule is written down a second time here; images are written by hand. Those of other writers
are in test_canary_writers.py.
"""

import errno
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.canary_seeds import LARGE, deep
from tests.core.core import Core
from tests.host.store.written import (
    CHUNKS,
    SECURITY,
    SUPERBLOCK,
    TRUSTED,
    USER,
    Node,
    changed,
    directory,
    image,
    inline,
    stored,
)  # fmt: skip

DIGEST = "0a" * 32
METACOPY = (TRUSTED, b"overlay.metacopy", b"")
LABEL = (SECURITY, b"selinux", b"system_u:object_r:bin_t:s0\0")

Tree = Mapping[bytes, Union["Tree", int, None]]
"""A name to a directory, to the size of a file in the store, or to None: a file in the image."""


class Reads:
    """How the core reads, from memory; read number `fails` has an error."""

    def __init__(self, core: Core, data: bytes, fails: int = -1) -> None:
        self.asked: list[tuple[int, int]] = []

        def read(_context: object, offset: int, out: Any, length: int) -> int:
            self.asked.append((offset, length))
            assert offset + length <= len(data)
            if len(self.asked) - 1 == fails:
                return -errno.EIO
            core.ffi.memmove(out, data[offset : offset + length], length)
            return 0

        self.callback = core.ffi.callback("cfs_read_at", read)


def search(core: Core, data: bytes, fails: int = -1) -> tuple[int, bytes, str | None, Reads]:
    reads, why = Reads(core, data, fails), core.ffi.new("const char **")
    path = core.room(core.lib.CFS_PATH_MAX)
    found = core.lib.cfs_canary_find(
        reads.callback, core.ffi.NULL, len(data), core.ffi.cast("char *", path), why
    )
    text = core.ffi.string(core.ffi.cast("char *", path))
    assert isinstance(text, bytes)
    return found, text, core.text(why[0]), reads


def find(core: Core, data: bytes) -> bytes | None:
    found, path, why, _ = search(core, data)
    assert found in (0, 1), why
    assert why is None
    return path if found else None


def refused(core: Core, data: bytes, error: int = errno.EBADMSG) -> str:
    found, _, why, _ = search(core, data)
    assert found == -error
    assert why is not None
    return why


def node(tree: Tree, *, blocks: bool = False) -> Node:
    entries = []
    for name, what in tree.items():
        if isinstance(what, Mapping):
            entries.append((name, node(what)))
        elif what is None:
            entries.append((name, inline(b"x", xattrs=[LABEL])))
        else:
            entries.append((name, stored(DIGEST, size=what, extended=what >= 1 << 32)))
    return directory(*entries, blocks=blocks)


def by_the_rule(tree: Tree) -> bytes | None:
    levels: list[tuple[bytes, Tree]] = [(b"", tree)]
    large = None
    while levels:
        below = []
        for start, names in levels:
            for name, what in sorted(names.items()):
                if isinstance(what, Mapping):
                    below.append((start + name + b"/", what))
                elif what is not None and what <= LARGE:
                    return start + name
                elif what is not None:
                    large = large or start + name
        levels = below
    return large


names = st.one_of(
    st.sampled_from([b"a", b"b", b"aa", b"a.", b"...", b"\xff\n"]),
    st.binary(min_size=1, max_size=255).map(
        lambda name: name.replace(b"/", b"-").replace(b"\0", b"0")
    ),
).filter(lambda name: name not in (b".", b".."))
files = st.sampled_from([None, 0, 1, LARGE, LARGE + 1, 1 << 40])
trees = st.recursive(
    st.dictionaries(names, files, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(files, inner), max_size=6),
    max_leaves=30,
)


@settings(max_examples=300)
@given(trees)
def test_the_rule_on_any_tree(core: Core, tree: Tree) -> None:
    assert find(core, image(node(tree))) == by_the_rule(tree)


def test_an_image_without_content_in_the_store_has_none(core: Core) -> None:
    assert find(core, image(directory())) is None
    assert find(core, image(node({b"a": None, b"d": {b"b": None, b"e": {}}}))) is None


def test_an_image_may_end_with_its_last_name(core: Core) -> None:
    assert find(core, image(directory()).rstrip(b"\0")) is None


def test_a_large_file_only_where_there_is_no_other(core: Core) -> None:
    assert find(core, image(node({b"a": LARGE + 1}))) == b"a"
    assert find(core, image(node({b"a": LARGE + 1, b"b": LARGE + 1}))) == b"a"
    assert find(core, image(node({b"a": LARGE + 1, b"z": {b"f": LARGE}}))) == b"z/f"


def test_only_regular_files_with_the_attribute_themselves(core: Core) -> None:
    mark = {"xattrs": [METACOPY]}
    others: list[tuple[bytes, Node]] = [
        (b"a-directory", directory(**mark)),
        (b"b-fifo", Node(0o010644, **mark)),  # type: ignore[arg-type]
        (b"c-link", Node(0o120777, data=b"z", **mark)),  # type: ignore[arg-type]
        (b"d-whiteout", Node(0o020644, **mark)),  # type: ignore[arg-type]
        (b"e-user", inline(b"", xattrs=[(USER, b"overlay.metacopy", b"")])),
        (b"f-other", inline(b"", xattrs=[(TRUSTED, b"overlay.metacopi", b"")])),
    ]
    assert find(core, image(directory(*others))) is None
    assert find(core, image(directory(*others, (b"z", stored(DIGEST))))) == b"z"


@pytest.mark.parametrize(
    ("own", "shared", "found"),
    [
        ([METACOPY], [], True),
        ([LABEL, (USER, b"a", b""), METACOPY], [], True),
        ([], [METACOPY], True),
        ([], [LABEL, METACOPY], True),
        ([METACOPY], [LABEL], True),
        ([LABEL], [LABEL], False),
    ],
)
def test_wherever_the_attribute_is(
    core: Core, own: list[Any], shared: list[Any], found: bool
) -> None:
    file = inline(b"", xattrs=own, shared=range(len(shared)))
    assert find(core, image(directory((b"f", file)), shared)) == (b"f" if found else None)


def test_a_search_reads_little(core: Core) -> None:
    """What is read of a wide root and of deep directories that are not wanted."""
    hidden = [(b"%02x" % number, Node(0o020644)) for number in range(256)]
    wide = [(b"d%04d" % number, node({b"x": {b"y": 0}})) for number in range(1000)]
    usr = (b"a", node({b"f": 0}))
    data = image(directory(*hidden, *wide, usr, blocks=True))
    found, path, _, reads = search(core, data)
    assert (found, path) == (1, b"a/f")
    assert sum(length for _, length in reads.asked) < len(data) / 2


def test_memory_does_not_grow_with_the_image(core: Core) -> None:
    """Each read fills one of a few windows, the largest a page."""
    many = [(b"%03d" % number, node({b"d": {}})) for number in range(300)]
    _, _, _, reads = search(core, image(directory(*many, blocks=True)))
    assert max(length for _, length in reads.asked) == 4096


def test_each_read_that_fails_is_the_end(core: Core) -> None:
    data = image(
        directory((b"a", directory()), (b"b", inline(b"x", shared=[0])), (b"c", node({b"f": 1}))),
        [LABEL],
    )
    found, _, _, reads = search(core, data)
    assert found == 1
    for number in range(len(reads.asked)):
        failed, _, why, until = search(core, data, number)
        assert (failed, why) == (-errno.EIO, None)
        assert len(until.asked) == number + 1


def test_how_deep(core: Core) -> None:
    assert find(core, image(deep(b"d", 127))) == b"d/" * 127 + b"f"
    text = "directories that are nested more than 127 deep"
    assert refused(core, image(deep(b"d", 128)), errno.EOPNOTSUPP) == text
    large = (b"large", stored(DIGEST, size=LARGE + 1))
    for depth, found in ((126, b"d/" * 127 + b"f"), (127, b"large")):
        assert find(core, image(directory((b"d", deep(b"d", depth)), large))) == found
    assert find(core, image(deep(b"d" * 255, 15))) == (b"d" * 255 + b"/") * 15 + b"f"
    assert search(core, image(deep(b"d" * 255, 17)))[0] == -errno.ENAMETOOLONG


def _own(names: int) -> bytes:
    """A root whose directories are the root itself."""
    root = directory(*((b"%d" % number, directory()) for number in range(names)))
    data = image(root)
    for number in range(names + 2):
        data = changed(data, root.offset + 32 + 12 * number, struct.pack("<Q", root.nid))
    return data


def test_directories_that_lie_in_themselves_come_to_an_end(core: Core) -> None:
    assert refused(core, _own(2)) == "more names than the image has room for"
    why = refused(core, _own(1) + bytes(4096), errno.EOPNOTSUPP)
    assert why == "directories that are nested more than 127 deep"


def _root(field: int, value: bytes) -> bytes:
    root = directory((b"a", stored(DIGEST)), (b"b", directory()))
    return changed(image(root), root.offset + field, value)


def _super(field: int, value: bytes) -> bytes:
    return changed(image(node({b"a": 1})), SUPERBLOCK + field, value)


def _entry(number: int, field: int, value: bytes) -> bytes:
    """Of ".", "..", a file and a directory."""
    return _root(32 + 12 * number + field, value)


def _typed(node: Node, kind: bytes) -> bytes:
    root = directory((b"a", node))
    return changed(image(root), root.offset + 32 + 12 * 2 + 10, kind)


def _with(file: Node, field: int, value: bytes) -> bytes:
    data = image(directory((b"a", file)), [METACOPY])
    return changed(data, file.offset + field, value)


def _name(name: bytes) -> bytes:
    root = directory((b"x", stored(DIGEST)))
    image(root)  # says where
    file = root.entries[0][1]
    root.data = struct.pack("<QHBB", file.nid, 12, 1, 0) + name
    return image(root)


OUTSIDE = "an address outside the image"
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut": (lambda: image(directory())[:1151], OUTSIDE),
    "cut in a name": (lambda: image(directory()).rstrip(b"\0")[:-1], OUTSIDE),
    "magic": (lambda: _super(0, b"\0"), "no EROFS magic"),
    "block of 256": (lambda: _super(12, b"\x08"), "blocks of no possible size"),
    "block of 128 KiB": (lambda: _super(12, b"\x11"), "blocks of no possible size"),
    "inodes outside": (lambda: _super(40, b"\xff" * 4), OUTSIDE),
    "root outside": (lambda: _super(14, b"\xff\xff"), OUTSIDE),
    "root is a file": (
        lambda: _root(4, struct.pack("<H", 0o100644)),
        "a directory's entry that leads to something else",
    ),
    "huge root": (lambda: _root(8, b"\xff" * 4), "a directory larger than the image"),
    "across a block": (
        lambda: _root(8, struct.pack("<I", 4000)),
        "a directory across the end of a block",
    ),
    "names at 0": (lambda: _entry(0, 8, b"\0\0"), "a directory whose names begin nowhere"),
    "names behind": (lambda: _entry(0, 8, b"\xff\0"), "a directory whose names begin nowhere"),
    "name before": (lambda: _entry(2, 8, b"\x0b\0"), "a name outside its block"),
    "name behind": (lambda: _entry(2, 8, b"\xff\0"), "a name outside its block"),
    "names backwards": (lambda: _entry(3, 8, b"\x30\0"), "a name outside its block"),
    "no type": (lambda: _typed(stored(DIGEST), b"\0"), "a name without a type"),
    "another type": (lambda: _entry(2, 10, b"\x08"), "a name without a type"),
    "empty name": (lambda: _name(b"\0"), "a name that Linux cannot have"),
    "name with /": (lambda: _name(b"a/b"), "a name that Linux cannot have"),
    "name of 256": (lambda: _name(b"n" * 256), "a name that Linux cannot have"),
    "inode outside": (lambda: _entry(2, 0, b"\xff" * 8), OUTSIDE),
    "file is a directory": (
        lambda: _typed(directory(), b"\1"),
        "a file's entry that leads to something else",
    ),
    "directory is a file": (
        lambda: _typed(stored(DIGEST), b"\2"),
        "a directory's entry that leads to something else",
    ),
    "xattrs": (
        lambda: _with(stored(DIGEST), 2, b"\xff\xff"),
        "more xattrs than a file can have",
    ),
    "shared xattrs": (
        lambda: _with(inline(b"", shared=[0]), 32 + 4, b"\xff"),
        "xattrs outside their place",
    ),
    "shared xattr outside": (
        lambda: _with(inline(b"", shared=[0]), 32 + 12, b"\xff" * 4),
        OUTSIDE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_rule(core: Core, case: str) -> None:
    make, rule = BROKEN[case]
    assert refused(core, make()) == rule


@pytest.mark.parametrize("feature", [0x40, 0x80, 0x100, 1 << 31])
def test_features_that_move_what_is_read_are_refused(core: Core, feature: int) -> None:
    why = refused(core, _super(80, struct.pack("<I", feature)), errno.EOPNOTSUPP)
    assert why == "EROFS features that composefs images do not have"


def test_a_table_of_prefixes_is_refused_without_its_feature_too(core: Core) -> None:
    why = refused(core, _super(91, b"\1"), errno.EOPNOTSUPP)
    assert why == "EROFS features that composefs images do not have"


def test_features_of_contents_are_not(core: Core) -> None:
    assert find(core, _super(80, struct.pack("<I", 0x3F))) == b"a"


@pytest.mark.parametrize("layout", [1, 3, CHUNKS, 7])
def test_directories_in_another_form_are_refused(core: Core, layout: int) -> None:
    data = image(directory((b"a", directory(layout=layout))))
    why = refused(core, data, errno.EOPNOTSUPP)
    assert why == "a directory that is compressed or in chunks"


# ---- in a file


def in_file(core: Core, fd: int) -> tuple[int, Any]:
    why, path = core.ffi.new("const char **"), core.room(core.lib.CFS_PATH_MAX)
    found = core.lib.cfs_canary_find_fd(fd, core.ffi.cast("char *", path), why)
    return found, core.ffi.string(core.ffi.cast("char *", path))


def test_in_a_file(core: Core, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image(node({b"a": {b"f": 1}})))
    with (tmp_path / "image").open("rb") as file:
        assert in_file(core, file.fileno()) == (1, b"a/f")
        core.each_call_fails(lambda: in_file(core, file.fileno())[0])
        os.truncate(tmp_path / "image", 1024)
        assert in_file(core, file.fileno())[0] == -errno.EBADMSG
    assert core.lib.cfs_canary_find_fd(-1, core.ffi.NULL, core.ffi.new("char **")) == -errno.EBADF
