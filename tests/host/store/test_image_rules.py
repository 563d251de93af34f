# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the reader of images refuses: each rule is broken once."""

import _cfshost
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz import erofs_seeds
from tests.host.store import written
from tests.host.store.written import directory, inline, link

_FILE = 0o100644
_TRUSTED = written.TRUSTED
_WHITEOUT = (_TRUSTED, b"overlay.overlay.whiteout", b"")


def in_root(node: written.Node, *shared: written.Xattr) -> bytes:
    return written.image(directory((b"a", node)), shared)


def _with(*xattrs: written.Xattr) -> bytes:
    return in_root(inline(b"", xattrs=xattrs))


def _at(offset: int, value: int) -> bytes:
    return written.changed(written.image(directory()), offset, bytes([value]))


def _two_names() -> bytes:
    inner = directory()
    return written.image(directory((b"a", inner), (b"b", inner)))


def _deep() -> bytes:
    """Directories with nothing but one name, each in the one before."""
    count, first = 3000, written.FIRST_INODE // 32
    data = bytearray(written.image(directory()).ljust(written.FIRST_INODE + 64 * count, b"\0"))
    for number in range(first, first + 2 * count, 2):
        head = struct.pack("<HHHHIIIIHHI", 4, 0, 0o40755, 1, 13, 0, 0, 1, 0, 0, 0)
        entry = struct.pack("<QHBB", number + 2, 12, 2, 0) + b"d"
        data[32 * number : 32 * number + 45] = head + entry
    return bytes(data)


def _bomb() -> bytes:
    """Directories with the same data: each name would be there many times."""
    file, place, names = inline(b""), 0, [b"%03d" % i for i in range(200)]
    data = b"x"
    for _ in range(2):  # the second time with what the first one says
        first = written.Node(0o40755, data=data, blocks=True)
        others = [
            written.Node(0o40755, data=b"x", layout=written.PLAIN, size=len(data), place=place)
            for _ in range(40)
        ]
        dirs = [(b"%03d" % i, node) for i, node in enumerate([first, *others])]
        made = written.image(directory((b"-", file), *dirs))
        data = written.entries([(name, file) for name in names])
        place = first.place
    return made


def _twice() -> bytes:
    """Two entries of one name."""
    file, made = inline(b""), b""
    for _ in range(2):  # the second time with the number of the file
        root = directory((b"x", file))
        root.data = written.entries([(b"a", file), (b"a", file)])
        made = written.image(root)
    return made


def _overlapping() -> bytes:
    files = [(b"%02d" % i, inline(b"", size=1500)) for i in range(20)]
    return written.image(directory(*files))


RULES: dict[str, Callable[[], bytes]] = {
    "smaller than a block": lambda: bytes(4095),
    "no composefs header": lambda: _at(0, 1),
    "composefs header of an unknown version": lambda: _at(4, 2),
    "no EROFS magic": lambda: _at(1024, 0),
    "blocks of another size than 4096": lambda: _at(1036, 13),
    "EROFS features that composefs images do not have": lambda: _at(1104, 5),
    "more blocks than the file has": lambda: _at(1060, 2),
    "inodes outside the file": lambda: _at(1064, 1),
    "shared xattrs outside the file": lambda: _at(1068, 1),
    "an inode outside the file": lambda: _at(1038, 200),
    "a root that is no directory": lambda: written.image(inline(b"")),
    "an inode of a format that composefs images do not have": lambda: in_root(
        inline(b"", fields={"format": 2})
    ),
    "an inode of an unknown type": lambda: in_root(written.Node(0o170644)),
    "an inode with an empty tail": lambda: in_root(inline(b"", size=4096)),
    "chunks of what is no regular file": lambda: in_root(
        written.Node(stat.S_IFLNK | 0o777, layout=written.CHUNKS)
    ),
    "chunks of an unknown format": lambda: in_root(
        written.Node(_FILE, layout=written.CHUNKS, size=1, place=64)
    ),
    "xattrs outside the file": lambda: in_root(inline(b"", fields={"xattr_count": 5000})),
    "more shared xattrs than the inode has room for": lambda: in_root(
        inline(b"", shared=[0, 0], fields={"xattr_count": 1}), (_TRUSTED, b"a", b"")
    ),
    "an xattr outside its place": lambda: in_root(
        inline(b"", xattrs=[(_TRUSTED, b"abcdefgh", b"")], fields={"xattr_count": 2})
    ),
    "an xattr of an unknown kind": lambda: _with((7, b"a", b"")),
    "an xattr without a valid name": lambda: _with((0, b"", b"")),
    "an xattr whose name is of another kind": lambda: _with((0, b"trusted.a", b"")),
    "an xattr that is there twice": lambda: _with((1, b"a", b""), (1, b"a", b"b")),
    "more xattrs than an inode can have": lambda: in_root(
        inline(b"", shared=range(60)), *((1, b"%02d" % i, b"v" * 1200) for i in range(60))
    ),
    "a redirect with a NUL": lambda: _with((_TRUSTED, b"overlay.redirect", b"a\0b")),
    "a redirect with a control character": lambda: _with(
        (_TRUSTED, b"overlay.redirect", b"/ab/cd\n/etc/passwd")
    ),
    "a redirect that leads out of the store": lambda: _with(
        (_TRUSTED, b"overlay.redirect", b"/a/../b")
    ),
    "metacopy xattr of an unknown form": lambda: _with((_TRUSTED, b"overlay.metacopy", b"x")),
    "metacopy xattr whose digest is not of its algorithm": lambda: _with(
        (_TRUSTED, b"overlay.metacopy", b"\0\x24\0\2" + bytes(32))
    ),
    "a whiteout with content": lambda: in_root(inline(b"x", xattrs=[_WHITEOUT])),
    "data across the end of a block": lambda: written.image(
        directory((b"a", inline(b"", size=4095)), blocks=True)
    ),
    "data outside the file": lambda: in_root(
        written.Node(_FILE, layout=written.PLAIN, size=10, place=9)
    ),
    "a link of no possible length": lambda: in_root(link(b"", size=0)),
    "a link with a NUL": lambda: in_root(link(b"a\0b")),
    "a file in the image that is too large for that": lambda: in_root(
        written.Node(_FILE, layout=written.PLAIN, size=5001)
    ),
    "a directory with two names": _two_names,
    "inodes that lie on each other": _overlapping,
    "names that are not in order": _twice,
    "directories that are too deep in each other": _deep,
    "more names than the file has room for": _bomb,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule(rule: str) -> None:
    data = RULES[rule]()
    with pytest.raises(_cfshost.Malformed) as caught:
        _cfshost.Image(data).dump(lambda _: None)
    assert caught.value.args[0] == rule
    assert 0 <= caught.value.args[1] <= len(data)


def test_every_rule_of_the_reader_is_broken_by_a_seed() -> None:
    """By those of the fuzzer, where not by one of above."""
    seen = set()
    for data in erofs_seeds.erofs():
        padded = data + bytes(-len(data) % written.BLOCK)
        try:
            _cfshost.Image(padded or bytes(written.BLOCK)).dump(lambda _: None)
        except _cfshost.Malformed as error:
            seen.add(error.args[0])
    assert len(seen) > 35
    others = {"a directory without an entry", "a directory whose names begin nowhere",
              "a name outside its directory", "a name that no file can have",
              "names that are not in order", "an entry of another type than its inode",
              "a directory that is not its own or its parent's"}  # fmt: skip
    assert others <= seen
    text = (Path(__file__).parents[3] / "csrc/host/erofs.cc").read_text()
    calls = r"(?:Malformed\(|\bat\([^;\"]*|(?:OUTSIDE|TWICE)\[\] = )\"([^\"]*)\""
    assert set(re.findall(calls, text)) == RULES.keys() | others
