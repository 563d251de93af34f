# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `cfs-store objects`, `missing`, `ls` and `dump` say of an image."""

import _cfshost
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import image
from pyinit.initrd.report.errors import Refused
from tests.host.store import written
from tests.host.store.test_image_rules import in_root
from tests.host.store.written import directory, inline, link, stored

A, B, C = "0a" * 32, "1b" * 32, "2c" * 64
NAME_A, NAME_B = f"{A[:2]}/{A[2:]}", f"{B[:2]}/{B[2:]}"

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
    broken.write_bytes(in_root(inline(b"", shared=[0]), (99, b"a", b"b")))
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
