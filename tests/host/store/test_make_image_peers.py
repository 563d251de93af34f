# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images: the same bytes as mkcomposefs makes, of the same text and of the same directory; and of
the text that is said of an image."""

import _cfshost
import hashlib
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import dump_seeds
from fuzz.dump_seeds import DIGEST, ROOT, STORED
from pyinit.host.store import image, make_image
from tests.host.store import written
from tests.vm.toolbox import Toolbox

DIRECTORY = b"%s 0 40755 1 0 0 0 0.0 - - -"


def peer(toolbox: Toolbox, data: bytes, least: int, most: int) -> bytes:
    """What it makes, or why it does not."""
    done = subprocess.run(
        [*toolbox.command("mkcomposefs"), f"--min-version={least}", f"--max-version={most}",
         "--from-file", "-", "-"],
        input=data, capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    return done.stderr if done.returncode else done.stdout


def same(toolbox: Toolbox, data: bytes, least: int = 0, most: int = 1) -> bytes:
    made = _cfshost.make_image(data, least, most)
    assert made == peer(toolbox, data, least, most)
    make_image.check(made)
    return made


def test_seeds(toolbox: Toolbox) -> None:
    """Those that are whole: everything in one text, tails at the ends of blocks, large files."""
    count = 0
    for data in dump_seeds.dump():
        if data == dump_seeds.of_sha512():
            continue
        try:
            _cfshost.make_image(data, 0, 1)
        except _cfshost.Unfit:
            continue
        count += 1
        for least, most in ((0, 0), (0, 1), (1, 1)):
            same(toolbox, data, least, most)
    assert count > 40


def test_a_tree_of_this_machine(toolbox: Toolbox, tmp_path: Path) -> None:
    """Debian's Python: thousands of files, directories of several blocks, links."""
    tree, path = Path(os.__file__).parent, tmp_path / "tree.cfs"
    toolbox.run("mkcomposefs", tree, path)
    pieces: list[bytes] = []
    image.read(path).dump(pieces.append)
    text = b"".join(pieces)
    assert text.count(b"\n") > 500
    assert same(toolbox, text) == path.read_bytes()
    assert make_image.make(str(tree)) == path.read_bytes()


def test_a_directory_with_everything(toolbox: Toolbox, tmp_path: Path) -> None:
    """Also links between names: each is a file of its own, as mkcomposefs has it."""
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o751)
    for size in (0, 1, 63, 64, 65, 4096, 9 << 20):
        (tree / f"{size}").write_bytes(b"x" * size)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 1 << 20)
    for name in (b"\xff\x01\n", b"n" * 255, b"00", b"-", b"!"):
        (tree / os.fsdecode(name)).write_bytes(name)
    (tree / "link").symlink_to("/nowhere/" + "x" * 3000)
    (tree / "again").hardlink_to(tree / "65")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    inner = tree / "d" / "e"
    inner.mkdir(parents=True)
    for number in range(300):
        (inner / f"{number:0100}").touch()
    os.utime(inner, ns=(0, -1))
    os.utime(tree / "1", ns=(0, 1 << 62))
    os.chmod(tree / "63", 0o6755)
    os.setxattr(tree / "63", "user.a", b"b=\0")
    os.setxattr(inner, "user.overlay.opaque", b"y")
    with suppress(PermissionError):  # some containers
        os.mknod(inner / "gone", stat.S_IFCHR | 0o644, 0)
        os.setxattr(tree / "65", "trusted.overlay.redirect", b"/etc")
        os.chown(tree / "4096", 65536, 1)
        os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for least, most in ((0, 0), (0, 1), (1, 1)):
        path = tmp_path / "image"
        versions = (f"--min-version={least}", f"--max-version={most}")
        toolbox.run("mkcomposefs", *versions, tree, path)
        assert make_image.make(str(tree), least, most) == path.read_bytes()
    assert make_image.make(f"{tree}//") == make_image.make(str(tree))


def test_a_large_tree(toolbox: Toolbox) -> None:
    """Thousands of files with a label, in directories of several blocks, some hard links."""
    lines = [ROOT]
    for number in range(30):
        lines.append(DIRECTORY % (b"/d%02d" % number))
        for file in range(300):
            digest = hashlib.sha256(b"%d" % (number * file)).hexdigest().encode()
            about = (
                number,
                file,
                file * 7919,
                1700000000 + file % 3,
                digest[:2],
                digest[2:],
                digest,
            )
            lines.append(
                b"/d%02d/a-file-%03d %d 100755 1 0 0 0 %d.0 %s/%s - %s security.selinux=bin_t"
                % about
            )
            if file % 50 == 0:
                again = (number, file, number, file)
                lines.append(
                    b"/d%02d/again-%03d 0 @100755 1 0 0 0 0.0 /d%02d/a-file-%03d - -" % again
                )
    assert len(same(toolbox, b"\n".join(lines) + b"\n")) > 1 << 20


def _names_that_just_fit() -> Iterator[bytes]:
    for full, rest in ((7, 140), (15, 52)):
        for more in range(-3, 4):
            path = b"/%d%+d" % (full, more)
            yield DIRECTORY % path
            for name in (*(b"%03d" % i + b"n" * 252 for i in range(full)), b"x" * (rest + more)):
                yield b"%s/%s 0 100644 1 0 0 0 0.0 - - -" % (path, name)


def _links_that_just_fit() -> Iterator[bytes]:
    """With an inode of 32 bytes and one of 64; the last ones end where slots do, also of blocks."""
    lengths = (*range(4026, 4038), *range(4058, 4070), *(32 * (i % 5 + 1) for i in range(400)))
    for when in (b"0.0", b"1.0"):
        for number, length in enumerate(lengths):
            about = (when, number, length, when, b"t" * length)
            yield b"/%s-%03d %d 120777 1 0 0 0 %s %s - -" % about


def _numbers_that_just_fit() -> Iterator[bytes]:
    for number in (0xFFFE, 0xFFFF, 0x10000):
        yield b"/u%d 0 100644 1 %d 0 0 0.0 - - -" % (number, number)
        yield b"/g%d 0 100644 1 0 %d 0 0.0 - - -" % (number, number)
        yield b"/l%d 0 100644 %d 0 0 0 0.0 - - -" % (number, number)
    for number in (0xFFFFFFFE, 0xFFFFFFFF, 0x100000000):
        yield b"/s%d %d 100644 1 0 0 0 0.0 - - -" % (number, number)
        yield b"/p%d %d 10644 1 0 0 0 0.0 - - -" % (number, number)


def _contents_that_just_fit() -> Iterator[bytes]:
    for size in (*range(2040, 2057), *range(4090, 4100)):
        for xattr in (b"", b" user.a=" + b"v" * 900):
            about = (size, bool(xattr), size, b"c" * size, xattr)
            yield b"/c%d-%d %d 100644 1 0 0 0 0.0 - %s -%s" % about


@pytest.mark.parametrize(
    "lines",
    [_names_that_just_fit, _links_that_just_fit, _numbers_that_just_fit, _contents_that_just_fit],
)
def test_what_just_fits(toolbox: Toolbox, lines: Callable[[], Iterator[bytes]]) -> None:
    """Half a block, a whole one, and fields of a short inode: one less, and one more."""
    same(toolbox, b"\n".join([ROOT, *lines()]) + b"\n")


# Random trees. A byte of names is likely one of few, so that they sort in all ways.
_byte = st.one_of(st.sampled_from(b"-.0aA\xff"), st.integers(1, 255)).filter(lambda c: c != 0x2F)
_name = st.one_of(
    st.lists(_byte, min_size=1, max_size=8).map(bytes),
    st.integers(0, 255).map(lambda number: b"%02x" % number),
    st.integers(1, 255).map(lambda length: b"n" * length),
).filter(lambda name: name not in (b".", b".."))
_key = st.tuples(
    st.sampled_from([b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"other.",
                     b"trusted.overlay.", b"user.overlay."]),
    st.sampled_from([b"", b"a", b"opaque", b"whiteouts", b"redirect", b"n" * 15, b"n" * 16,
                     b"\xffn" * 30]),
).map(b"".join)  # fmt: skip
_xattrs = st.dictionaries(
    _key, st.one_of(st.sampled_from([b"", b"x", b"y" * 1000]), st.binary(max_size=40)), max_size=6
)
_owner = st.sampled_from([0, 1000, 65535, 65536, (1 << 32) - 1])
_time = st.tuples(
    st.sampled_from([0, -1, 1700000000, 1 << 33]), st.sampled_from([0, 1, 999999999])
).map(lambda time: b"%d.%d" % time)
_size = st.one_of(
    st.sampled_from([1, 4096, 4097, 1 << 32, (1 << 43) + 1, 1 << 53]), st.integers(1, 1 << 53)
)
_content = st.one_of(
    st.binary(min_size=1, max_size=64),
    st.sampled_from([2047, 2048, 2049, 4031, 4064, 4095, 4096, 4097, 5000]).map(
        lambda size: b"c\0" * (size // 2) + b"c" * (size % 2)
    ),
)
_kind = st.sampled_from(
    ["stored", "stored", "inline", "directory", "directory", "link", "again", "whiteout", "fifo",
     "socket", "char", "block", "empty"]
)  # fmt: skip
_node = st.tuples(
    _name, _kind, st.integers(0, 0o7777), _owner, _owner, st.sampled_from([1, 2, 65535, 65536]),
    _time, _size, _content, st.integers(0, 1 << 20), _xattrs,
)  # fmt: skip
_FORMATS = {"stored": 0o100000, "inline": 0o100000, "empty": 0o100000, "directory": 0o40000,
            "link": 0o120000, "again": 0o100000, "whiteout": 0o20000, "fifo": 0o10000,
            "socket": 0o140000, "char": 0o20000, "block": 0o60000}  # fmt: skip


def escaped(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)


def told(xattrs: dict[bytes, bytes]) -> bytes:
    return b"".join(b" %s=%s" % (escaped(key), escaped(value)) for key, value in xattrs.items())


def lines_of(nodes: list[tuple[Any, ...]], xattrs: dict[bytes, bytes], time: bytes) -> list[bytes]:
    lines = [b"/ 0 40755 2 0 0 0 %s - - -%s" % (time, told(xattrs))]
    directories, others, seen = [b""], [b""], set()
    for name, kind, mode, uid, gid, nlink, when, large, content, number, more in nodes:
        path = directories[number % len(directories)] + b"/" + escaped(name)
        if path in seen or (kind == "again" and len(others) == 1):
            continue
        seen.add(path)
        payload = inside = digest = b"-"
        rdev, size = 0, 0 if kind == "empty" else large
        if kind == "again":
            payload = others[1 + number % (len(others) - 1)]
        elif kind == "stored":
            payload, digest = (STORED, DIGEST) if number % 4 else (b"-", b"-")
        elif kind == "inline":
            inside, size = escaped(content), len(content)
        elif kind == "link":
            payload = escaped(content.replace(b"\0", b"0")[:4095])
        elif kind in ("char", "block"):
            rdev = number + 1
        (directories if kind == "directory" else others).append(path)
        again = b"@" if kind == "again" else b""
        lines.append(
            b"%s %d %s%o %d %d %d %d %s %s %s %s%s"
            % (path, size, again, _FORMATS[kind] | mode, nlink, uid, gid, rdev, when, payload,
               inside, digest, told(more))
        )  # fmt: skip
    return lines


@given(
    nodes=st.lists(_node, max_size=40), xattrs=_xattrs, time=_time, newline=st.booleans(),
    versions=st.sampled_from([(0, 0), (0, 1), (1, 1)]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_tree(
    toolbox: Toolbox, nodes: list[tuple[Any, ...]], xattrs: dict[bytes, bytes], time: bytes,
    newline: bool, versions: tuple[int, int],
) -> None:  # fmt: skip
    """But for a directory of whiteouts that has an xattr of their marks' names already. There
    mkcomposefs counts below zero, and refuses what it believes to be too large."""
    data = b"\n".join(lines_of(nodes, xattrs, time)) + b"\n" * newline
    theirs = peer(toolbox, data, *versions)
    made = _cfshost.make_image(data, *versions)
    make_image.check(made)
    marked = any(escaped(mark) in data for mark in (b"overlay.whiteouts", b"overlay.opaque"))
    below_zero = theirs.endswith(b": Numerical result out of range\n") and marked
    assert below_zero or made == theirs


# ---- and back


def dumped(made: bytes) -> bytes:
    pieces: list[bytes] = []
    _cfshost.Image(made).dump(pieces.append)
    return b"".join(pieces)


MARKS = (b"overlay.whiteout", b"overlay.whiteouts")


@given(nodes=st.lists(_node, max_size=40), xattrs=_xattrs, time=_time)
@settings(max_examples=150, deadline=None)
def test_of_its_text_the_same_image_is_made(
    nodes: list[tuple[Any, ...]], xattrs: dict[bytes, bytes], time: bytes
) -> None:
    """Whatever name stands for a hard link. Marks of whiteouts, which nobody else gives: below.
    A size of what is no file, 4 GiB or more, makes an inode long, and is not in the image."""
    nodes = [(*node[:7], node[7] if node[1] == "stored" else 1, *node[8:]) for node in nodes]
    data = b"\n".join(lines_of(nodes, xattrs, time))
    if any(escaped(mark) in data for mark in MARKS):
        return
    made = _cfshost.make_image(data, 0, 1)
    assert _cfshost.make_image(dumped(made), 0, 1) == made


LINK = b"/%s 0 @100644 1 0 0 0 0.0 /%s - -"
EMPTY = b"/%s 0 100644 1 0 0 0 0.0 - - -"
GONE = b"/%s 0 20644 1 0 0 0 0.0 - - -"


@pytest.mark.parametrize(
    "lines",
    [
        [LINK % (b"a", b"c"), EMPTY % b"b", EMPTY % b"c"],
        [LINK % (b"00", b"02"), EMPTY % b"02"],  # 01 hides a directory of the store
        [DIRECTORY % b"/d", EMPTY % b"d/a", LINK % (b"e", b"d/a"), EMPTY % b"z"],
        [DIRECTORY % b"/d", EMPTY % b"e", EMPTY % b"f", LINK % (b"d/a", b"f")],
        [DIRECTORY % b"/d" + b" trusted.overlay.whiteouts= user.overlay.whiteouts="],
        [DIRECTORY % b"/d", GONE % b"d/a"],
        [EMPTY % b"a" + b" trusted.overlay.whiteout="],
        [EMPTY % b"a" + b" user.overlay.whiteout= user.overlay.whiteouts=x"],
    ],
)
def test_what_a_text_has_to_say(toolbox: Toolbox, lines: list[bytes]) -> None:
    made = same(toolbox, b"\n".join([ROOT, *lines]) + b"\n")
    assert same(toolbox, dumped(made)) == made


def test_of_an_image_in_another_order_the_first_name_stands_for_it() -> None:
    """Depth first, as in other formats of composefs-rs."""
    link = written.inline(b"y")
    inner = written.directory((b"x", link))
    root = written.directory((b"d", inner), (b"e", written.inline(b"z")), (b"f", link))
    lines = dumped(written.image(root)).splitlines()
    assert [line.split()[2][:1] for line in lines] == [b"4", b"4", b"1", b"1", b"@"]
