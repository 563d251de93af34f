# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add`, with a kernel that is played (played.py)."""

import _cfs
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import add, fsverity
from pyinit.initrd.root.digest import Digest
from tests.host.store.played import HELLO, HELLO_HEX, Kernel, files, put

Capture = pytest.CaptureFixture[str]


def test_add(store: Path, hello: Path, kernel: Kernel, capsys: Capture) -> None:
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == (f"sha256:{HELLO_HEX}\n", "")
    name = f"objects/{HELLO_HEX[:2]}/{HELLO_HEX[2:]}"
    assert files(store) == {name: HELLO}
    assert (store / name).stat().st_ino in kernel.sealed
    assert stat.S_IMODE((store / name).stat().st_mode) == 0o644


def test_add_sha512_to_a_plain_objects_directory(
    tmp_path: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    objects = tmp_path / "objects-only"
    objects.mkdir()
    arguments = ["add", "--object-store", str(objects), "--hash", "sha512", "--image", str(hello)]
    assert main(arguments) == 0
    digits = capsys.readouterr().out.strip().removeprefix("sha512:")
    assert files(objects) == {f"{digits[:2]}/{digits[2:]}": HELLO}


def test_create_and_image(tmp_path: Path, hello: Path, kernel: Kernel, capsys: Capture) -> None:
    store = tmp_path / "new"
    other = tmp_path / "other"
    other.write_bytes(b"other")
    arguments = ["add", "--object-store", str(store), "--create", "--image", str(hello), str(other)]
    assert main(arguments) == 0
    assert main(arguments) == 0, "again: nothing to do"
    assert capsys.readouterr().out.split()[1] == f"sha256:{HELLO_HEX}"
    link = store / "images" / HELLO_HEX
    assert os.readlink(link) == f"../objects/{HELLO_HEX[:2]}/{HELLO_HEX[2:]}"
    assert link.read_bytes() == HELLO
    assert [path.name for path in (store / "images").iterdir()] == [HELLO_HEX]
    # as the initrd opens it
    root, objects, layout = opened = _cfs.store_open(-100, str(store))
    fd, name = _cfs.store_open_image(opened, (_cfs.SHA256, bytes.fromhex(HELLO_HEX)))
    assert (layout, name) == (_cfs.LAYOUT_REPOSITORY, f"images/{HELLO_HEX}")
    for number in (root, objects, fd):
        os.close(number)


def test_a_link_that_leads_elsewhere_is_refused(
    store: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    (store / "images" / HELLO_HEX).symlink_to("../objects/00/other")
    assert main(["add", "--object-store", str(store), "--image", str(hello)]) == 32
    assert "../objects/00/other, expected ../objects/1e/" in capsys.readouterr().err


def test_other_objects_are_taken_over(tmp_path: Path, store: Path, kernel: Kernel) -> None:
    source = tmp_path / "source"
    for number in range(20):
        objects = source / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        put(source, b"%d" % number, algorithm=_cfs.SHA512 if number % 2 else _cfs.SHA256)
    assert main(["add", "--object-store", str(store), str(source / "objects")]) == 0
    assert files(store) == files(source)
    assert {path.stat().st_ino for path in store.rglob("objects/??/*")} == set(kernel.sealed)


@pytest.mark.parametrize("name", [HELLO_HEX[:-1] + "5", "ab" + "strange"])
def test_names_that_lie_are_not_taken_over(
    name: str, tmp_path: Path, store: Path, kernel: Kernel, capsys: Capture
) -> None:
    source = tmp_path / "source"
    (source / "objects").mkdir(parents=True)
    path = put(source, HELLO, name)
    assert main(["add", "--object-store", str(store), str(source)]) == 32
    assert capsys.readouterr().err.startswith("cfs-store: refused: ")
    assert files(store) == {}
    assert path.exists()


def test_what_is_there_is_measured_not_trusted(
    store: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    path = put(store, b"planted", HELLO_HEX)
    assert main(["add", "--object-store", str(store), str(hello)]) == 32
    assert capsys.readouterr().err.startswith(f"cfs-store: refused: measure: {path}: sha256:")
    assert path.read_bytes() == b"planted"
    assert not kernel.sealed
    path.unlink()
    path.symlink_to(hello)
    assert main(["add", "--object-store", str(store), str(hello)]) == 32
    assert "not a regular file, expected an object" in capsys.readouterr().err


def test_what_is_there_unsealed_is_sealed(store: Path, hello: Path, kernel: Kernel) -> None:
    path = put(store, HELLO)
    before = path.stat().st_ino
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    assert set(kernel.sealed) == {before} == {path.stat().st_ino}


def test_auto_says_what_it_left_out(
    store: Path, hello: Path, no_verity: Kernel, capsys: Capture
) -> None:
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    output = capsys.readouterr()
    assert output.out == f"sha256:{HELLO_HEX}\n"
    [line] = output.err.splitlines()
    assert line.startswith(f"cfs-store: warning: {store}: not sealed: no fs-verity on this file")
    assert main(["add", "--object-store", str(store), "--verity", "off", str(hello)]) == 0
    assert capsys.readouterr().err == ""


def test_auto_does_not_hide_other_failures(store: Path, hello: Path, kernel: Kernel) -> None:
    put(store, HELLO)
    kernel.fail[HELLO_HEX[2:]] = errno.ETXTBSY
    assert main(["add", "--object-store", str(store), str(hello)]) == 32


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_for_the_hashes(
    number: int, store: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    path = put(store, HELLO)
    kernel.fail[path.name] = number
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    said = f"cfs-store: error: store: {path}: {os.strerror(number)} "
    assert capsys.readouterr().err.startswith(said)


Fault = Callable[[str, int], None]


@pytest.fixture
def fault(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Has a call of `os` fail from then on."""

    def fail(name: str, number: int) -> None:
        def call(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, call)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_fault_of_the_store_is_told_with_its_path(
    number: int, store: Path, hello: Path, fault: Fault, capsys: Capture
) -> None:
    """Both paths, and the one at fault first; nothing is left."""
    fault("copy_file_range", number)
    fault("pwrite", number)
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    path = store / "objects" / HELLO_HEX[:2] / HELLO_HEX[2:]
    said = f"{os.strerror(number)} ({errno.errorcode[number]}), for {hello}\n"
    assert capsys.readouterr().err == f"cfs-store: error: store: {path}: {said}"
    assert files(store) == {}


@pytest.mark.parametrize("second", [False, True])
def test_a_fault_of_the_source_is_told_with_its_path(
    second: bool, store: Path, hello: Path, fault: Fault, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At the first time that it is read, to be hashed, or at the second, to be copied."""
    digest_of = fsverity.digest_of

    def hashed(fd: int, algorithm: int) -> Digest:
        digest = digest_of(fd, algorithm)
        fault("pread", errno.EIO)
        return digest

    fault("copy_file_range", errno.EIO)
    if second:
        monkeypatch.setattr(fsverity, "digest_of", hashed)
    else:
        fault("pread", errno.EIO)
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    said = f"cfs-store: error: store: {hello}: Input/output error (EIO), to be added"
    assert capsys.readouterr().err == said + ("\n" if second else f" to {store}\n")
    assert files(store) == {}


def test_require_without_fs_verity(
    store: Path, hello: Path, no_verity: Kernel, capsys: Capture
) -> None:
    require = ["add", "--object-store", str(store), "--verity", "require", str(hello)]
    assert main(require) == 32
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cfs-store: refused: store: {hello}: not sealed: no fs-verity on this")
    assert files(store) == {}, "nothing left behind"


def test_require_on_a_real_file_system_without_it(hello: Path, capsys: Capture) -> None:
    tmpfs = Path("/dev/shm") / f"cfs-test-{os.getpid()}"
    if os.statvfs("/dev/shm").f_bavail == 0:
        pytest.skip("no tmpfs at /dev/shm to write to")
    tmpfs.mkdir()
    try:
        arguments = ["add", "--object-store", str(tmpfs), "--verity", "require", str(hello)]
        assert main(arguments) == 32
        assert "no fs-verity on this file system or kernel" in capsys.readouterr().err
    finally:
        shutil.rmtree(tmpfs)


def test_a_file_that_changes_meanwhile(
    store: Path, hello: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    copy = add._copy_data

    def changing(source: int, path: Path, target: int) -> None:
        hello.write_bytes(b"another one")
        copy(source, path, target)

    monkeypatch.setattr(add, "_copy_data", changing)
    assert main(["add", "--object-store", str(store), str(hello)]) == 32
    assert f"refused: measure: {hello}: sha256:" in capsys.readouterr().err
    assert files(store) == {}


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP])
def test_copying_where_the_kernel_cannot(
    number: int, store: Path, hello: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: int) -> int:
        raise OSError(number, os.strerror(number))

    data = os.urandom(3_000_000)
    hello.write_bytes(data)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:70_000], at))
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    assert list(files(store).values()) == [data]


def test_durable_before_it_is_named(
    store: Path, hello: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []

    def record(name: str, real: Callable[..., None]) -> None:
        def call(*arguments: object) -> None:
            where = arguments[0]
            path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
            calls.append((name, os.path.basename(path)[:6]))
            real(*arguments)

        monkeypatch.setattr(os, name, call)

    record("fsync", os.fsync)
    record("rename", os.rename)
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    temporary = f".{HELLO_HEX[2:]}"[:6]
    assert calls == [
        ("fsync", temporary),
        ("rename", temporary),
        ("fsync", "object"),
        ("fsync", "1e"),
    ]


def meta(store: Path, **values: object) -> None:
    content = {"version": 1, "algorithm": "fsverity-sha512-12", **values}
    (store / "meta.json").write_text(json.dumps(content))


def test_the_repository_says_the_algorithm(
    store: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    meta(store)
    assert main(["add", "--object-store", str(store), str(hello)]) == 0
    assert capsys.readouterr().out.startswith("sha512:")
    assert main(["add", "--object-store", str(store), "--hash", "sha256", str(hello)]) == 1
    assert "error: usage: --hash sha256: a repository of sha512" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values",
    [
        {"version": 2},
        {"algorithm": "fsverity-sha256-16"},
        {"features": {"incompatible": ["news"]}},
    ],
)
def test_unknown_repositories_are_refused(
    values: dict[str, object], store: Path, hello: Path, kernel: Kernel
) -> None:
    meta(store, **values)
    assert main(["add", "--object-store", str(store), str(hello)]) == 32
    assert main(["seal", str(store)]) == 32


def test_only_regular_files(store: Path, tmp_path: Path, kernel: Kernel, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert main(["add", "--object-store", str(store), str(tmp_path / "fifo")]) == 32
    assert "not a regular file" in capsys.readouterr().err
