# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `cfs-store objects`, `missing`, `ls` and `dump` say of an image, beside composefs-info."""

import _cfshost
import os
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import erofs_seeds
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import image
from pyinit.initrd.report.errors import Refused
from tests.host.store import written
from tests.host.store.written import directory, inline, link, stored
from tests.vm.toolbox import Toolbox

A, B, C = "0a" * 32, "1b" * 32, "2c" * 64
NAME_A, NAME_B = f"{A[:2]}/{A[2:]}", f"{B[:2]}/{B[2:]}"
FILE = 0o100644

Capture = pytest.CaptureFixture[bytes]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = stored(A, nlink=2)
    label = [(written.SECURITY, b"selinux", b"a=b\0")]
    marks = [
        (written.TRUSTED, b"overlay.overlay.whiteout", b""),
        (written.USER, b"overlay.whiteout", b""),
    ]
    gone = inline(b"", xattrs=marks)
    root = directory(
        (b"00", written.Node(stat.S_IFCHR | 0o644)),
        (b"bin", directory((b"again", file), (b"b c", inline(b"hello\n", xattrs=label)))),
        (b"file", file),
        (b"gone", gone),
        (b"link", link(b"bin/b c")),
        (b"long", stored(C, algorithm=2)),
        (b"other", stored(B, extended=True, mtime=(-1, 5), owner=(70000, 2))),
    )
    path = tmp_path / "small.cfs"
    path.write_bytes(written.image(root))
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_dump(small: Path, capfdbinary: Capture) -> None:
    assert run("dump", small) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    time = f"{written.BUILD_TIME}.7"
    assert lines[0].startswith("/ ")
    assert lines[2:] == [
        f"/bin/again 10000 100644 2 0 0 0 {time} {NAME_A} - {A}",
        f"/bin/b\\x20c 6 100644 1 0 0 0 {time} - hello\\n - security.selinux=a\\x3db\\x00",
        f"/file 10000 @100644 2 0 0 0 {time} /bin/again - {A}",
        f"/gone 0 20644 1 0 0 0 {time} - - -",
        f"/link 7 120777 1 0 0 0 {time} bin/b\\x20c - -",
        f"/long 10000 100644 1 0 0 0 {time} {C[:2]}/{C[2:]} - {C}",
        f"/other 10000 100644 1 70000 2 0 -1.5 {NAME_B} - {B}",
    ]


def test_ls(small: Path, capfdbinary: Capture) -> None:
    below = f"/bin/again\t@ {NAME_A}\n/bin/b c\n"
    assert run("ls", small) == 0
    output = capfdbinary.readouterr().out.decode()
    assert output.startswith(
        "/bin/\t\n" + below + f"/file\t@ {NAME_A}\n/gone\n/link\t-> bin/b\\x20c\n"
    )
    for path in ("bin", "/bin/", "//./bin"):
        assert run("ls", small, path) == 0
        assert capfdbinary.readouterr().out.decode() == "/bin/\t\n" + below
    assert run("ls", small, "/bin/b c") == 0
    assert capfdbinary.readouterr().out == b"/bin/b c\n"
    for path in ("bi", "bin/b", "file/x"):
        assert run("ls", small, path) == 1
        output = capfdbinary.readouterr().err.decode()
        assert output == f"cfs-store: error: usage: {path}: no such file in {small}\n"


def test_objects_of_several_images(small: Path, tmp_path: Path, capfdbinary: Capture) -> None:
    other = tmp_path / "other.cfs"
    more = "05" * 32
    other.write_bytes(written.image(directory((b"a", stored(more)), (b"b", stored(B)))))
    assert run("objects", small, other) == 0
    expected = sorted([f"05/{more[2:]}", NAME_A, NAME_B, f"{C[:2]}/{C[2:]}"])
    assert capfdbinary.readouterr().out.decode().split() == expected


def test_missing(small: Path, store: Path, capfdbinary: Capture) -> None:
    objects = store / "objects"
    for name in (NAME_A, NAME_B):
        (objects / name).parent.mkdir()
        (objects / name).touch()
    long = f"{C[:2]}/{C[2:]}"
    assert run("missing", "--object-store", store, small) == 32
    output = capfdbinary.readouterr()
    assert output.out.decode() == long + "\n"
    said = f"cfs-store: refused: store: {store}: 1 of 3 objects are missing\n"
    assert output.err.decode() == said
    (objects / long).parent.mkdir()
    (objects / long).touch()
    assert run("missing", "--object-store", store, small) == 0
    assert capfdbinary.readouterr().out == b""
    (objects / NAME_A).unlink()
    (objects / NAME_A).symlink_to(objects / NAME_B)
    assert run("missing", "--object-store", store, small) == 32, "an object is no link"
    assert capfdbinary.readouterr().out.decode() == NAME_A + "\n"


def test_what_is_no_image(tmp_path: Path, small: Path, capfdbinary: Capture) -> None:
    empty, fifo = tmp_path / "empty", tmp_path / "fifo"
    empty.touch()
    os.mkfifo(fifo)
    for path, found in (
        (empty, "no composefs image: smaller than a block at byte 0"),
        (fifo, "not a regular file, expected a composefs image"),
        (tmp_path, "not a regular file, expected a composefs image"),
        (Path("/dev/null"), "not a regular file, expected a composefs image"),
        (tmp_path / "absent", ""),
    ):
        for verb in ("dump", "ls", "objects"):
            assert run(verb, path) == (32 if found else 2)
            output = capfdbinary.readouterr()
            assert output.out == b""
            expected = f"cfs-store: refused: erofs: {path}: {found}\n"
            assert not found or output.err.decode() == expected
    assert run("objects", small, empty) == 32


def test_of_several_images_the_broken_one_is_named(small: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.cfs"
    broken.write_bytes(_in_root(inline(b"", shared=[0]), (99, b"a", b"b")))
    with pytest.raises(Refused, match=r"broken\.cfs: no composefs image: an xattr of an unknown"):
        image.objects(map(image.read, [small, broken, small]))


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, image.SIZE_LIMIT + 1)
    with pytest.raises(Refused, match="an image of at most"):
        image.read(path)


def test_what_writes_may_fail(small: Path) -> None:
    """And so it is interrupted: a signal's handler raises in there."""
    parsed = image.read(small)

    def write(_: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parsed.dump(write)
    with pytest.raises(KeyboardInterrupt):
        parsed.list(None, write)


# ---- each rule

_TRUSTED = written.TRUSTED
_WHITEOUT = (_TRUSTED, b"overlay.overlay.whiteout", b"")


def _in_root(node: written.Node, *shared: written.Xattr) -> bytes:
    return written.image(directory((b"a", node)), shared)


def _with(*xattrs: written.Xattr) -> bytes:
    return _in_root(inline(b"", xattrs=xattrs))


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
    "an inode of a format that composefs images do not have": lambda: _in_root(
        inline(b"", fields={"format": 2})
    ),
    "an inode of an unknown type": lambda: _in_root(written.Node(0o170644)),
    "an inode with an empty tail": lambda: _in_root(inline(b"", size=4096)),
    "chunks of what is no regular file": lambda: _in_root(
        written.Node(stat.S_IFLNK | 0o777, layout=written.CHUNKS)
    ),
    "chunks of an unknown format": lambda: _in_root(
        written.Node(FILE, layout=written.CHUNKS, size=1, place=64)
    ),
    "xattrs outside the file": lambda: _in_root(inline(b"", fields={"xattr_count": 5000})),
    "more shared xattrs than the inode has room for": lambda: _in_root(
        inline(b"", shared=[0, 0], fields={"xattr_count": 1}), (_TRUSTED, b"a", b"")
    ),
    "an xattr outside its place": lambda: _in_root(
        inline(b"", xattrs=[(_TRUSTED, b"abcdefgh", b"")], fields={"xattr_count": 2})
    ),
    "an xattr of an unknown kind": lambda: _with((7, b"a", b"")),
    "an xattr without a valid name": lambda: _with((0, b"", b"")),
    "an xattr whose name is of another kind": lambda: _with((0, b"trusted.a", b"")),
    "an xattr that is there twice": lambda: _with((1, b"a", b""), (1, b"a", b"b")),
    "more xattrs than an inode can have": lambda: _in_root(
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
    "a whiteout with content": lambda: _in_root(inline(b"x", xattrs=[_WHITEOUT])),
    "data across the end of a block": lambda: written.image(
        directory((b"a", inline(b"", size=4095)), blocks=True)
    ),
    "data outside the file": lambda: _in_root(
        written.Node(FILE, layout=written.PLAIN, size=10, place=9)
    ),
    "a link of no possible length": lambda: _in_root(link(b"", size=0)),
    "a link with a NUL": lambda: _in_root(link(b"a\0b")),
    "a file in the image that is too large for that": lambda: _in_root(
        written.Node(FILE, layout=written.PLAIN, size=5001)
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


def test_the_files_of_a_directory() -> None:
    """Nothing of it but regular files, and nothing elsewhere; a second name of a file too."""
    twice = written.inline(b"twice", nlink=2)
    below = written.directory((b"deep", written.inline(b"deep")))
    here = written.directory(
        (b"a", written.inline(b"a")), (b"b", written.stored(A)), (b"c", below),
        (b"d", written.link(b"a")), (b"e", twice),
    )  # fmt: skip
    beside = written.directory((b"a", written.inline(b"beside")), (b"first", twice))
    root = written.directory(
        (b"her", beside),
        (b"here", here),
        (b"herein", written.directory((b"x", written.inline(b"x")))),
    )
    parsed = _cfshost.Image(written.image(root))
    payload = f"{A[:2]}/{A[2:]}".encode()
    expected = [(b"a", b"a", b""), (b"b", b"", payload), (b"e", b"twice", b"")]
    assert list(parsed.files("/here")) == expected
    assert list(parsed.files("/here/c")) == [(b"deep", b"deep", b"")]
    for nothing in ("", "/", "/her/a", "/here/", "/here/b", "/none", "here"):
        assert list(parsed.files(nothing)) == []


# ---- the peer


def peer(toolbox: Toolbox, verb: str, path: Path) -> bytes:
    done = subprocess.run(
        [*toolbox.command("composefs-info"), verb, path],
        capture_output=True, check=True, timeout=600,
    )  # fmt: skip
    return done.stdout


def ours(verb: str, path: Path) -> bytes:
    pieces: list[bytes] = []
    read = image.read(path)
    if verb == "objects":
        return image.objects([read])[0]
    if verb == "dump":
        read.dump(pieces.append)
    else:
        read.list(None, pieces.append)
    return b"".join(pieces)


def by_name(dump: bytes) -> list[bytes]:
    """Without which of the names of an inode stands for it: composefs-info takes the first."""
    lines = [line.split(b" ") for line in dump.splitlines()]
    payloads = {line[0]: line[8] for line in lines}
    for line in lines:
        if line[2].startswith(b"@"):
            line[2] = line[2][1:]
            line[8] = payloads[line[8]]
    return [b" ".join(line) for line in lines]


def same(toolbox: Toolbox, path: Path) -> None:
    assert ours("objects", path) == peer(toolbox, "objects", path)
    assert by_name(ours("dump", path)) == by_name(peer(toolbox, "dump", path))


def test_a_tree_of_this_machine(toolbox: Toolbox, tmp_path: Path) -> None:
    """Debian's Python: thousands of files, directories of several blocks, links."""
    tree = Path(os.__file__).parent
    path = tmp_path / "tree.cfs"
    toolbox.run("mkcomposefs", f"--digest-store={tmp_path / 'objects'}", tree, path)
    same(toolbox, path)
    assert ours("ls", path) == peer(toolbox, "ls", path)
    assert ours("dump", path).count(b"\n") > 500
    assert image.missing([image.read(path)], tmp_path / "objects")[1] == 0


# Of composefs-dump(5): what a field can be, each escaped.
_byte = st.integers(1, 255)
_name = st.lists(_byte.filter(lambda c: c != 0x2F), min_size=1, max_size=255).map(bytes)
_hex = st.sampled_from([A, B, "fe" * 32])
_xattr = st.tuples(
    st.sampled_from([b"user.", b"trusted.", b"security.", b"trusted.overlay."]),
    st.lists(_byte, min_size=1, max_size=20).map(bytes),
    st.binary(max_size=40),
)
_about = st.tuples(
    st.sampled_from(["file", "inline", "directory", "link", "fifo", "device", "whiteout", "again"]),
    st.integers(0, 0o7777), st.integers(0, 70000), st.integers(-1, 1 << 33),
    st.integers(0, 999_999_999), st.binary(min_size=1, max_size=4200), _hex,
    st.lists(_xattr, max_size=4, unique_by=lambda entry: entry[:2]),
)  # fmt: skip


def escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def line(path: bytes, about: tuple[Any, ...], earlier: list[str]) -> str:
    kind, mode, owner, seconds, nanoseconds, content, digest, xattrs = about
    size, form, rdev, payload, inside, measured = 0, stat.S_IFREG, 0, "-", "-", "-"
    if kind == "again" and earlier:
        return f"{escaped(path)} 0 @120000 1 0 0 0 0.0 {earlier[0]} - -"
    if kind == "file":
        size, payload, measured = len(content) << 20, f"{digest[:2]}/{digest[2:]}", digest
    elif kind == "directory":
        form = stat.S_IFDIR
    elif kind == "link":
        form, payload = stat.S_IFLNK, escaped(content.replace(b"\0", b"0")[:4000])
    elif kind == "fifo":
        form = stat.S_IFIFO
    elif kind in ("device", "whiteout"):
        form, rdev = stat.S_IFCHR, 0x103 if kind == "device" else 0
    else:
        size, inside = len(content), escaped(content)
    if form != stat.S_IFDIR:
        earlier.append(escaped(path))
    told = "".join(f" {escaped(kind + name)}={escaped(value)}" for kind, name, value in xattrs)
    return (
        f"{escaped(path)} {size} {form | mode:o} 1 {owner} {owner} {rdev} "
        f"{seconds}.{nanoseconds} {payload} {inside} {measured}{told}"
    )


@pytest.mark.parametrize("version", [0, 1])
def test_what_mkcomposefs_makes_of_each_kind(
    toolbox: Toolbox, tmp_path: Path, version: int
) -> None:
    """It takes these: what it makes of any dump it may have refused."""
    kinds = ["file", "inline", "directory", "link", "fifo", "device", "whiteout", "again"]
    xattrs = [(b"user.", b"a", b"b"), (b"trusted.overlay.", b"c", b"d")]
    earlier: list[str] = []
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -"]
    for kind in kinds:
        about = (kind, 0o644, 7, 5, 6, b"content", A, xattrs)
        lines.append(line(b"/" + kind.encode(), about, earlier))
    (tmp_path / "dump").write_text("\n".join(lines) + "\n")
    toolbox.run(
        "mkcomposefs", f"--min-version={version}", "--from-file", tmp_path / "dump",
        tmp_path / "image",
    )  # fmt: skip
    same(toolbox, tmp_path / "image")
    assert ours("dump", tmp_path / "image").count(b"\n") == len(lines)


@given(
    entries=st.lists(st.tuples(_name, _about), max_size=12, unique_by=lambda entry: entry[0]),
    version=st.sampled_from([0, 1]),
)
@settings(max_examples=40)
def test_what_mkcomposefs_makes_of_any_dump(
    toolbox: Toolbox,
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[bytes, tuple[Any, ...]]],
    version: int,
) -> None:
    place = tmp_path_factory.mktemp("any")
    earlier: list[str] = []
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -"]
    named = [entry for entry in entries if entry[0] not in (b".", b"..")]
    lines += [line(b"/" + name, about, earlier) for name, about in named]
    (place / "dump").write_text("\n".join(lines) + "\n")
    made = subprocess.run(
        [*toolbox.command("mkcomposefs"), f"--min-version={version}", "--from-file", place / "dump",
         place / "image"],
        capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    if made.returncode == 0:  # it has rules of its own
        same(toolbox, place / "image")


def test_reading_takes_no_more_memory_than_the_image(tmp_path: Path) -> None:
    """A machine of 512 MB has not 1 GiB to give, not even for a moment."""
    path = tmp_path / "image"
    path.write_bytes(written.image(written.directory()))
    program = (
        "import resource, sys; from pathlib import Path; from pyinit.host.store import image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "image.read(Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", program, str(path)], check=True, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
