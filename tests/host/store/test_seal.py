# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store seal`, with a kernel that is played (played.py)."""

import _cfs
import errno
import os
import threading
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import fsverity, seal
from pyinit.host.store.layout import Names, Store
from tests.host.store.played import HELLO, HELLO_HEX, Kernel, put

Capture = pytest.CaptureFixture[str]


def test_seal(store: Path, kernel: Kernel, capsys: Capture) -> None:
    paths = [put(store, b"%d" % number) for number in range(200)]
    paths.append(put(store, b"sha512", algorithm=_cfs.SHA512))
    image = store / "images" / HELLO_HEX
    image.write_bytes(HELLO)
    (store / "images" / ("0" * 64)).symlink_to("nowhere")
    (store / "images" / "refs").mkdir()
    assert main(["seal", str(store)]) == 0
    output = capsys.readouterr()
    assert (
        output.out == "202 objects: 202 sealed, 0 were sealed, 0 not sealed, 0 of other content\n"
    )
    assert output.err.splitlines()[-1] == "cfs-store: sealing: 202 of 202"
    assert set(kernel.sealed) == {path.stat().st_ino for path in [*paths, image]}
    assert main(["seal", str(store)]) == 0
    assert "0 sealed, 202 were sealed" in capsys.readouterr().out


def test_a_store_without_an_object_is_refused(
    store: Path, tmp_path: Path, kernel: Kernel, capsys: Capture
) -> None:
    """It may be the mount point of a disk that is not mounted."""
    assert main(["seal", str(store)]) == 32
    line = f"cfs-store: refused: store: {store}: no object in it, expected a store that has been"
    assert line in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["add", "--object-store", str(store), str(tmp_path / "empty")]) == 32
    assert f"{tmp_path / 'empty'}: no object in it" in capsys.readouterr().err


@pytest.mark.parametrize("sealed_before", [False, True])
def test_other_content_is_reported(
    sealed_before: bool, store: Path, kernel: Kernel, capsys: Capture
) -> None:
    path = put(store, b"planted", HELLO_HEX)
    put(store, b"good")
    planted = fsverity.digest_blocks(iter([b"planted"]), _cfs.SHA256)
    if sealed_before:
        kernel.sealed[path.stat().st_ino] = planted
    assert main(["seal", str(store)]) == 32
    output = capsys.readouterr()
    line = f"cfs-store: refused: measure: {path}: {planted}, expected sha256:{HELLO_HEX}"
    assert line in output.err.splitlines()
    assert output.err.splitlines()[-1].startswith("cfs-store: refused: measure: ")
    assert "1 of other content" in output.out


def test_an_object_of_the_other_algorithm_is_other_content(
    store: Path, kernel: Kernel, capsys: Capture
) -> None:
    path = put(store, HELLO)
    kernel.sealed[path.stat().st_ino] = fsverity.digest_blocks(iter([HELLO]), _cfs.SHA512)
    assert main(["seal", str(store)]) == 32
    assert "sha512:" in capsys.readouterr().err


def test_why_some_were_not_sealed(store: Path, kernel: Kernel, capsys: Capture) -> None:
    paths = [put(store, b"%d" % number) for number in range(10)]
    for path in paths[:3]:
        kernel.fail[path.name] = errno.ETXTBSY
    kernel.fail[paths[3].name] = errno.ENOSPC
    assert main(["seal", str(store)]) == 2
    output = capsys.readouterr()
    lines = output.err.splitlines()
    for path in paths[:3]:
        assert any(
            line.startswith(f"cfs-store: not sealed: {path}: open for writing") for line in lines
        )
    assert any(line.startswith("cfs-store: 3 not sealed: open for writing") for line in lines)
    assert any(
        line.startswith("cfs-store: 1 not sealed: no space for its hashes") for line in lines
    )
    assert lines[-1] == f"cfs-store: error: store: {store}: 4 of 10 objects are not sealed"
    assert output.out == "10 objects: 6 sealed, 0 were sealed, 4 not sealed, 0 of other content\n"


def test_a_sealed_store_on_a_read_only_file_system(store: Path, kernel: Kernel) -> None:
    path = put(store, HELLO)
    assert main(["seal", str(store)]) == 0
    kernel.fail[path.name] = errno.EROFS
    assert main(["seal", str(store)]) == 0


def test_without_fs_verity_nothing_is_sealed(
    store: Path, no_verity: Kernel, capsys: Capture
) -> None:
    for number in range(50):
        put(store, b"%d" % number)
    assert main(["seal", str(store)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("cfs-store: 50 not sealed: no fs-verity ") for line in lines)
    assert sum(" not sealed: /" in line for line in lines) == 1, "one stands for all"


def test_of_a_reason_twenty_are_named(store: Path, kernel: Kernel, capsys: Capture) -> None:
    paths = [put(store, b"%d" % number) for number in range(31)]
    for path in paths[:30]:
        kernel.fail[path.name] = errno.ETXTBSY
    assert main(["seal", str(store)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("cfs-store: 30 not sealed: open for writing") for line in lines)
    assert sum(" not sealed: /" in line for line in lines) == 20, "the rest is counted"


def test_nothing_new_is_begun_after_an_interrupt(
    store: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large store the rest would take minutes."""
    for number in range(20):
        put(store, b"%d" % number)
    begun, go = list[object](), threading.Event()
    seal_batch = seal._seal_batch

    def batch(names: Names, *, compare: bool) -> seal.Report:
        begun.append(names)
        assert len(begun) == 1 or go.wait(60)
        return seal_batch(names, compare)

    def interrupt(_: int, __: int) -> None:
        threading.Timer(0.2, go.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(seal, "_THREADS", 1)
    monkeypatch.setattr(seal, "_BATCH", 1)
    monkeypatch.setattr(seal, "_seal_batch", batch)
    with pytest.raises(KeyboardInterrupt):
        seal.seal_store(Store(store), interrupt)
    assert len(begun) <= 2


def test_what_is_no_object(store: Path, kernel: Kernel, capsys: Capture) -> None:
    directory = store / "objects" / "ab"
    directory.mkdir()
    (directory / "stray").write_bytes(b"")
    (directory / ("0" * 62)).symlink_to("stray")
    (directory / ("1" * 62)).mkdir()
    os.mkfifo(directory / ("2" * 62))
    (directory / ".half.tmp").write_bytes(b"an interrupted add")
    (store / "objects" / "image.erofs").write_bytes(b"beside the objects")
    assert main(["seal", str(store)]) == 2
    output = capsys.readouterr()
    assert output.out.startswith("4 objects: 0 sealed, 0 were sealed, 4 not sealed")
    assert "1 not sealed: not named by a digest" in output.err
    assert "not a regular file (ELOOP)" in output.err


def test_ostree_names_are_no_digests(store: Path, kernel: Kernel) -> None:
    (store / "config").write_bytes(b"")
    (store / "refs").mkdir()
    path = put(store, HELLO, "ab" * 32)
    path.rename(path.with_suffix(".file"))
    assert main(["seal", str(store)]) == 0
    assert len(kernel.sealed) == 1
    assert main(["add", "--object-store", str(store), str(path.with_suffix(".file"))]) == 1


def test_the_bar_on_a_terminal(
    store: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    put(store, HELLO)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["seal", str(store)]) == 0
    assert "sealing: 100%" in capsys.readouterr().err
