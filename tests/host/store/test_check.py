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
from tests.host.store.played import HELLO, HELLO_HEX, put
from tests.host.store.written import directory, stored

Capture = pytest.CaptureFixture[str]
BLOCK = 4096
# Where a level of the tree is full: 128 hashes of SHA-256 a block, 64 of SHA-512.
EDGES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 64 * BLOCK, 64 * BLOCK + 1, 65 * BLOCK, 128 * BLOCK - 1,
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
