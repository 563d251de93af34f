# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store measure` and `check`: digests in user space, and what may be wrong with a store."""

from __future__ import annotations

import _cfs
import _cfshost
import errno
import json
import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import check, fsverity
from tests.host.store import written
from tests.host.store.played import HELLO, HELLO_HEX, digits_of, put
from tests.host.store.written import directory, stored

Capture = pytest.CaptureFixture[str]
BLOCK = 4096
# Where a level of the tree is full: 128 hashes of SHA-256 a block, 64 of SHA-512.
EDGES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 64 * BLOCK, 64 * BLOCK + 1, 65 * BLOCK, 128 * BLOCK - 1,
         *(count * BLOCK + 9 for count in range(2, 10)),  # several at once: csrc/host/lanes.h
         128 * BLOCK, 128 * BLOCK + 1, 129 * BLOCK, 64 * 64 * BLOCK, 64 * 64 * BLOCK + 1,
         128 * 128 * BLOCK + 1]  # fmt: skip


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def slow(data: bytes, algorithm: int) -> bytes:
    """By hashlib: the other implementation here."""
    return fsverity.digest_blocks(iter([data]), algorithm).pair[1]


@pytest.mark.parametrize("algorithm", [_cfs.SHA256, _cfs.SHA512])
@pytest.mark.parametrize("size", EDGES)
def test_digests_at_the_edges(size: int, algorithm: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert _cfshost.verity_digest(data[:size], algorithm) == slow(data[:size], algorithm)


@given(data=st.binary(max_size=3 * BLOCK), algorithm=st.sampled_from([_cfs.SHA256, _cfs.SHA512]))
def test_digests(data: bytes, algorithm: int) -> None:
    assert _cfshost.verity_digest(data, algorithm) == slow(data, algorithm)


def test_measure(tmp_path: Path, hello: Path, capsys: Capture) -> None:
    """In the order in which they are given, whichever is done first; a link is followed."""
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(b"x" * (1 << 22))
    empty.touch()
    (tmp_path / "link").symlink_to(hello)
    assert run("measure", large, hello, empty, tmp_path / "link") == 0
    lines = capsys.readouterr().out.split()
    assert lines[0] == f"sha256:{slow(b'x' * (1 << 22), _cfs.SHA256).hex()}"
    assert lines[1] == lines[3] == f"sha256:{HELLO_HEX}"
    assert lines[2] == f"sha256:{slow(b'', _cfs.SHA256).hex()}"
    assert run("measure", "--hash", "sha512", hello) == 0
    assert capsys.readouterr().out == f"sha512:{slow(HELLO, _cfs.SHA512).hex()}\n"


def test_what_cannot_be_measured(tmp_path: Path, capsys: Capture) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert run("measure", tmp_path / "absent") == 2
    assert capsys.readouterr().err.endswith("absent: No such file or directory (ENOENT)\n")
    for path in (fifo, tmp_path, Path("/dev/zero")):
        assert run("measure", path) == 32
        found = f"cfs-store: refused: measure: {path}: not a regular file, expected a file\n"
        assert capsys.readouterr().err == found


def test_a_store_that_is_right(store: Path, capsys: Capture) -> None:
    held = put(store, HELLO)
    root = written.image(directory((b"file", stored(HELLO_HEX, size=len(HELLO)))))
    image = put(store, root)
    put(store, b"other", algorithm=_cfs.SHA512)
    (store / "images" / image.name).symlink_to(f"../objects/{image.parent.name}/{image.name}")
    (store / "images/refs").mkdir()
    (held.parent / ".x.tmp").touch()
    assert run("check", store) == 0
    assert capsys.readouterr().out == "3 objects, 0 sealed, 1 images, 0 faults\n"
    assert run("check", "--sealed", store) == 32
    output = capsys.readouterr()
    assert output.out.count("object-verity-missing: objects/") == 3
    assert output.err == f"cfs-store: refused: measure: {store}: 3 faults\n"


def test_each_fault(store: Path, capsys: Capture) -> None:
    good, digest = put(store, HELLO), "ab" * 32
    put(store, b"changed", digest)
    (good.parent / "strange").touch()
    other = store / "objects/cd"
    other.mkdir()
    (other / digest[2:]).symlink_to(good)
    os.mkfifo(other / ("e" * 62))
    image = put(store, written.image(directory((b"file", stored("0f" * 32)))))
    images = store / "images"
    for name, target in (
        ("broken", "../objects/no"),
        ("short", f"../objects/{good.parent.name}/{good.name}"),
        ("whole", f"../objects/{image.parent.name}/{image.name}"),
    ):
        (images / name).symlink_to(target)
    (images / "folder").mkdir()
    assert run("check", "--json", store) == 32
    report = json.loads(capsys.readouterr().out)
    assert (report["objects"], report["images"], report["sealed"]) == (5, 4, 0)
    measured = slow(b"changed", _cfs.SHA256).hex()
    found = {(fault["kind"], fault["path"], fault["detail"]) for fault in report["faults"]}
    assert found == {
        ("object-digest-mismatch", f"objects/ab/{digest[2:]}", f"measured {measured}"),
        ("object-invalid-name", f"objects/{good.parent.name}/strange", "no digest"),
        ("object-open-failed", f"objects/cd/{digest[2:]}", "not a regular file"),
        ("object-open-failed", f"objects/cd/{'e' * 62}", "not a regular file"),
        ("broken-symlink", "images/broken", ""),
        ("entry-not-symlink", "images/folder", ""),
        ("image-invalid", "images/short",
         "no composefs image: smaller than a block at byte 11"),
        ("image-missing-object", "images/whole", f"0f/{'0f' * 31}"),
    }  # fmt: skip


def test_an_empty_store(store: Path, capsys: Capture) -> None:
    assert run("check", store) == 32
    assert "no object in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("measured", "kind"),
    [
        ((0, True, True, bytes.fromhex(HELLO_HEX), bytes.fromhex(HELLO_HEX)), None),
        ((0, True, True, bytes.fromhex(HELLO_HEX), b"\1"), "object-verity-failed"),
        ((0, True, True, bytes.fromhex(HELLO_HEX), b""), "object-verity-failed"),
        ((errno.EIO, True, True, b"", b""), "object-verity-failed"),
        ((errno.EIO, True, False, b"", b""), "object-open-failed"),
        ((errno.EACCES, True, False, b"", b""), "object-open-failed"),
    ],
)
def test_of_a_sealed_object(measured: _cfshost.Measured, kind: str | None) -> None:
    """What a kernel with fs-verity says."""
    fault = check._fault("objects/x", HELLO_HEX, measured, compare=True)
    assert (fault and fault.kind) == kind


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    """A terabyte of nothing would take minutes."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        check.measure([path], _cfs.SHA256, lambda _, __: None)
    timer.join()
    threads = len(os.listdir("/proc/self/task"))
    assert threads <= threading.active_count() + 1


def test_an_ostree_repository(tmp_path: Path, capsys: Capture) -> None:
    """Its names are no digests: nothing is compared, and what is no file of it is passed over."""
    (tmp_path / "config").touch()
    (tmp_path / "refs").mkdir()
    place = tmp_path / "objects/ab"
    place.mkdir(parents=True)
    (place / f"{'c' * 62}.file").write_bytes(HELLO)
    (place / f"{'c' * 62}.commit").touch()
    (place / "strange").touch()
    os.mkfifo(place / f"{'d' * 62}.file")
    assert run("check", tmp_path) == 32
    output = capsys.readouterr()
    fault = f"object-open-failed: objects/ab/{'d' * 62}.file: not a regular file"
    assert output.out.splitlines() == [fault, "2 objects, 0 sealed, 0 images, 1 faults"]


def test_a_directory_of_objects_that_is_none(store: Path, capsys: Capture) -> None:
    put(store, HELLO)
    (store / "objects/ab").touch()
    assert run("check", store) == 2
    assert f"{store}/objects/ab: Not a directory" in capsys.readouterr().err


def test_an_image_that_is_no_link(store: Path, capsys: Capture) -> None:
    root = written.image(directory((b"file", stored(HELLO_HEX, size=len(HELLO)))))
    put(store, HELLO)
    (store / "images" / fsverity.digest_blocks(iter([root]), 1).hex).write_bytes(root)
    (store / "images" / ("ab" * 32)).write_bytes(root)
    assert run("check", store) == 32
    assert f"object-digest-mismatch: images/{'ab' * 32}: measured" in capsys.readouterr().out


@given(kinds=st.lists(st.sampled_from(["file", "absent", "link", "fifo", "odd"]), max_size=12))
def test_what_an_image_lacks(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    """Beside a look at each path, which knows nothing of the check."""
    store = tmp_path_factory.mktemp("store")
    entries = []
    for number, kind in enumerate(kinds):
        content = b"%d" % number
        digest = digits_of(content)
        entries.append((b"%02d" % number, stored(digest, size=5000)))
        path = store / "objects" / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(content)
        elif kind == "odd":  # a regular file, whatever is in it
            path.write_bytes(b"changed")
        elif kind == "link":
            path.symlink_to("/dev/null")
        elif kind == "fifo":
            os.mkfifo(path)
    parsed = _cfshost.Image(written.image(directory(*entries)))
    (store / "objects").mkdir(exist_ok=True)
    fd = os.open(store, os.O_PATH | os.O_DIRECTORY)
    objects = os.open(store / "objects", os.O_PATH | os.O_DIRECTORY)
    try:
        checked = _cfshost.check(fd, "objects/", False, [], False, 2, lambda _, __: None)
        found = _cfshost.missing([parsed], objects, checked)
        assert found == _cfshost.missing([parsed], objects)
        assert found[1:] == (sum(kind not in ("file", "odd") for kind in kinds), len(kinds))
    finally:
        os.close(fd)
        os.close(objects)
