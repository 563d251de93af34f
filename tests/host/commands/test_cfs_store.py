# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add` and `seal`, with this machine's file systems and with a kernel that is played.

Sealing by a real kernel is proved in a virtual machine: machines that run tests may lack fs-verity.
"""

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

HELLO = b"hello world"
HELLO_HEX = "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"

Capture = pytest.CaptureFixture[str]


class Kernel:
    """fs-verity as in Linux: sealed files, by inode, and errors for those that shall fail."""

    def __init__(self) -> None:
        self.sealed: dict[int, Digest] = {}
        self.fail: dict[str, int] = {}
        self.supported = True

    def enable(self, fd: int, algorithm: int, block_size: int) -> None:
        assert block_size == 4096
        path = os.readlink(f"/proc/self/fd/{fd}")
        number = 0 if self.supported else errno.EOPNOTSUPP
        number = number or self.fail.get(os.path.basename(path), 0)
        if os.fstat(fd).st_ino in self.sealed:
            number = number or errno.EEXIST
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            number = errno.EINVAL
        if number:
            raise OSError(number, os.strerror(number))
        self.sealed[os.fstat(fd).st_ino] = fsverity.digest_of(fd, algorithm)

    def measure(self, fd: int) -> tuple[int, bytes]:
        digest = self.sealed.get(os.fstat(fd).st_ino)
        if digest is None:
            number = errno.ENODATA if self.supported else errno.ENOTTY
            raise OSError(number, os.strerror(number))
        return digest.pair


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(_cfs, "verity_enable", kernel.enable)
    monkeypatch.setattr(_cfs, "verity_measure", kernel.measure)
    return kernel


@pytest.fixture
def no_verity(kernel: Kernel) -> Kernel:
    kernel.supported = False
    return kernel


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    (path / "objects").mkdir(parents=True)
    (path / "images").mkdir()
    return path


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    path = tmp_path / "hello"
    path.write_bytes(HELLO)
    return path


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def put(store: Path, content: bytes, name: str | None = None, algorithm: int = _cfs.SHA256) -> Path:
    """An unsealed object, under its digest or under another name."""
    digits = name or fsverity.digest_blocks(iter([content]), algorithm).hex
    path = store / "objects" / digits[:2] / digits[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


# ---- add ---------------------------------------------------------------------------------------


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


def fails(number: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_fault_of_the_store_is_told_with_its_path(
    number: int,
    store: Path,
    hello: Path,
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Both paths, and the one at fault first; nothing is left."""
    monkeypatch.setattr(os, "copy_file_range", fails(number))
    monkeypatch.setattr(os, "pwrite", fails(number))
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    path = store / "objects" / HELLO_HEX[:2] / HELLO_HEX[2:]
    said = f"{os.strerror(number)} ({errno.errorcode[number]}), for {hello}\n"
    assert capsys.readouterr().err == f"cfs-store: error: store: {path}: {said}"
    assert files(store) == {}


def test_a_fault_of_the_source_is_told_with_its_path(
    store: Path,
    hello: Path,
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(os, "pread", fails(errno.EIO))
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    start = f"cfs-store: error: store: {hello}: Input/output error (EIO), to be added"
    assert capsys.readouterr().err == f"{start} to {store}\n"
    # When it was read once, to be hashed, and cannot be a second time.
    monkeypatch.undo()
    monkeypatch.setattr(_cfs, "verity_measure", kernel.measure)
    monkeypatch.setattr(os, "copy_file_range", fails(errno.EIO))
    monkeypatch.setattr(add, "_read", add._read)
    digest_of = fsverity.digest_of

    def hashed(fd: int, algorithm: int) -> Digest:
        digest = digest_of(fd, algorithm)
        monkeypatch.setattr(os, "pread", fails(errno.EIO))
        return digest

    monkeypatch.setattr(fsverity, "digest_of", hashed)
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    assert capsys.readouterr().err == f"{start}\n"
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


# ---- seal --------------------------------------------------------------------------------------


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
    assert any(line.startswith("cfs-store: 50 not sealed: no fs-verity on") for line in lines)
    assert sum(" not sealed: /" in line for line in lines) == 20, "the rest is counted"


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


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["add", "file"], 1),
        (["add", "--object-store", "DIR"], 1),
        (["add", "--object-store", "DIR", "--hash", "md5", "file"], 1),
        (["add", "--object-store", "DIR", "absent"], 2),
        (["seal", "absent"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, store: Path) -> None:
    assert main([str(store) if word == "DIR" else word for word in arguments]) == code
