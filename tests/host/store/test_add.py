# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add`, with a kernel that is played (played.py)."""

import _cfs
import _cfshost
import errno
import json
import os
import resource
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import add, descriptors, fsverity, naming
from tests.host.store import written
from tests.host.store.played import HELLO, HELLO_HEX, Kernel, files, put

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One that needs the object HELLO."""
    path = tmp_path / "root.cfs"
    root = written.directory((b"hello", written.stored(HELLO_HEX, size=len(HELLO))))
    path.write_bytes(written.image(root))
    return path


def digest_of(path: Path, algorithm: int = _cfs.SHA256) -> str:
    return fsverity.digest_blocks(iter([path.read_bytes()]), algorithm).hex


def test_add(store: Path, hello: Path, kernel: Kernel, capsys: Capture) -> None:
    assert main(["add", "--quiet", "--object-store", str(store), str(hello)]) == 0
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
    assert main(["add", "--object-store", str(objects), "--hash", "sha512", str(hello)]) == 0
    digits = capsys.readouterr().out.strip().removeprefix("sha512:")
    assert files(objects) == {f"{digits[:2]}/{digits[2:]}": HELLO}


def test_create_and_image(
    tmp_path: Path, hello: Path, image: Path, kernel: Kernel, capsys: Capture
) -> None:
    store = tmp_path / "new"
    arguments = ["add", "--object-store", str(store), "--create", "--image", str(image), str(hello)]
    assert main(arguments) == 0
    assert main(arguments) == 0, "again: nothing to do"
    digits = digest_of(image)
    assert capsys.readouterr().out.split()[:2] == [f"sha256:{HELLO_HEX}", f"sha256:{digits}"]
    link = store / "images" / digits
    assert os.readlink(link) == f"../objects/{digits[:2]}/{digits[2:]}"
    assert link.read_bytes() == image.read_bytes()
    # A root for each collector: cfs-store's own, and those of cfsctl and bootc.
    root_of = store / "images/refs/cfs" / digits
    assert os.readlink(root_of) == f"../../{digits}"
    assert root_of.resolve() == link.resolve()
    assert sorted(path.name for path in (store / "images").iterdir()) == sorted([digits, "refs"])
    # as the initrd opens it
    root, objects, layout = opened = _cfs.store_open(-100, str(store))
    fd, name = _cfs.store_open_image(opened, (_cfs.SHA256, bytes.fromhex(digits)))
    assert (layout, name) == (_cfs.LAYOUT_REPOSITORY, f"images/{digits}")
    for number in (root, objects, fd):
        os.close(number)


def test_the_name_of_an_image(
    store: Path, tmp_path: Path, image: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    add_it = ["add", "--object-store", str(store), "--name", "os", str(hello), "--image"]
    assert main([*add_it, str(image)]) == 0
    digits = digest_of(image)
    assert {path.name for path in (store / "images/refs/cfs").iterdir()} == {"os"}
    assert os.readlink(store / "images/refs/cfs/os") == f"../../{digits}"
    # Another image would take the name, and the first one its last root, away.
    other = tmp_path / "other.cfs"
    other.write_bytes(written.image(written.directory()))
    capsys.readouterr()
    assert main([*add_it, str(other)]) == 32
    said = f"refs/cfs/os: ../../{digits}, expected ../../{digest_of(other)}\n"
    assert capsys.readouterr().err.endswith(said)
    assert main([*add_it, str(other), "--image", str(image)]) == 1
    for name in ("", ".", "..", ".hidden", "a/b", "a\nb"):
        line = ["add", "--object-store", str(store), "--name", name, "--image", str(image)]
        assert main(line) == 1, name


def test_what_an_image_lacks_is_said(
    store: Path, image: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    """Before anything of it is in the store."""
    assert main(["add", "--quiet", "--object-store", str(store), "--image", str(image)]) == 32
    said = capsys.readouterr().err.splitlines()
    found = f"1 of the 1 objects that it needs are not in {store}, expected all, or --allow-missing"
    assert said == [
        f"cfs-store: {image}: missing: {HELLO_HEX[:2]}/{HELLO_HEX[2:]}",
        f"cfs-store: refused: store: {image}: {found}",
    ]
    assert files(store) == {}
    assert list((store / "images").iterdir()) == []
    allow = ["add", "--object-store", str(store), "--allow-missing", "--image", str(image)]
    assert main(allow) == 0
    assert "missing: " in capsys.readouterr().err
    assert (store / "images" / digest_of(image)).exists()


@pytest.mark.parametrize("name", ["hello", "empty", "cut"])
def test_what_is_no_image_is_refused(
    name: str, tmp_path: Path, hello: Path, image: Path, kernel: Kernel, capsys: Capture
) -> None:
    """And nothing is made: no store, no object."""
    path = tmp_path / name
    if name != "hello":
        path.write_bytes(image.read_bytes()[: 1500 if name == "cut" else 0])
    store = tmp_path / "new"
    line = ["add", "--create", "--object-store", str(store), "--image", str(path), str(hello)]
    assert main(line) == 32
    assert f"refused: erofs: {path}: no composefs image: " in capsys.readouterr().err
    assert not store.exists()


def test_an_image_that_changes_meanwhile(
    store: Path, hello: Path, image: Path, kernel: Kernel, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was looked at is what is added."""
    check = add.check_images

    def changing(*arguments: object, **more: object) -> None:
        check(*arguments, **more)  # type: ignore[arg-type]
        image.write_bytes(image.read_bytes() + b"more")

    monkeypatch.setattr(add, "check_images", changing)
    line = ["add", "--object-store", str(store), str(hello), "--image", str(image)]
    assert main(line) == 32
    assert f"refused: measure: {image}: sha256:" in capsys.readouterr().err
    assert list((store / "images").iterdir()) == []


def test_a_link_that_leads_elsewhere_is_refused(
    store: Path, hello: Path, image: Path, kernel: Kernel, capsys: Capture
) -> None:
    digits = digest_of(image)
    (store / "images" / digits).symlink_to("../objects/00/other")
    line = ["add", "--object-store", str(store), "--image", str(image), str(hello)]
    assert main(line) == 32
    found = f"../objects/00/other, expected ../objects/{digits[:2]}/"
    assert found in capsys.readouterr().err
    assert not (store / "images/refs").exists()


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
    """Has a call of `os`, or of the engine, fail from then on."""

    def fail(name: str, number: int) -> None:
        def call(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        def give_names(_: int, files: Sequence[naming.Copy], __: int) -> list[int]:
            return [number] * len(files)

        if name == "give_names":
            monkeypatch.setattr(_cfshost, name, give_names)
        else:
            monkeypatch.setattr(os, name, call)

    return fail


@pytest.mark.parametrize("known", [False, True])
def test_a_fault_of_the_store_is_told_with_its_path(
    known: bool, store: Path, tmp_path: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    """Both paths, and the one at fault first; nothing is left. The limit is of this process."""
    (tmp_path / "source/objects").mkdir(parents=True)
    path = put(tmp_path / "source", HELLO) if known else hello
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, before[1]))
    try:
        given = tmp_path / "source" if known else hello
        assert main(["add", "--object-store", str(store), str(given)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    objects = store / "objects"
    place = objects / HELLO_HEX[:2] / HELLO_HEX[2:] if known else objects
    said = f"File too large (EFBIG), for {path}\n"
    assert capsys.readouterr().err == f"cfs-store: error: store: {place}: {said}"
    assert files(store) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "mkdir", "give_names"])
def test_a_fault_of_the_last_steps_is_told_with_its_path(
    call: str, number: int, store: Path, hello: Path, fault: Fault, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(add.Adder, "finish", lambda _: None)
    fault(call, number)
    assert main(["add", "--object-store", str(store), str(hello)]) == 2
    path = store / "objects" / HELLO_HEX[:2] / HELLO_HEX[2:]
    said = f"{os.strerror(number)} ({errno.errorcode[number]}), for {hello}\n"
    assert capsys.readouterr().err == f"cfs-store: error: store: {path}: {said}"
    assert files(store) == {}


def test_a_fault_of_the_source_is_told_with_its_path(
    store: Path, kernel: Kernel, capsys: Capture
) -> None:
    """A regular file that cannot be read, of every kernel."""
    path = "/proc/self/mem"
    assert main(["add", "--object-store", str(store), path]) == 2
    said = f"cfs-store: error: store: {path}: Input/output error (EIO), to be added to {store}\n"
    assert capsys.readouterr().err == said
    assert main(["add", "--object-store", str(store), "/absent"]) == 2
    said = "/absent: No such file or directory (ENOENT), to be added to"
    assert said in capsys.readouterr().err
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


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 18) - 1, 1 << 18, 3_000_001])
def test_what_is_copied_is_whole(
    size: int, named: bool, store: Path, hello: Path, kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also where a file cannot be without a name; and descriptors are none that stay."""
    if named:
        monkeypatch.setattr(add, "has_procfs", lambda: False)
    data = os.urandom(size)
    hello.write_bytes(data)
    before = len(os.listdir("/proc/self/fd"))
    assert main(["add", "--object-store", str(store), str(hello), str(hello)]) == 0
    assert len(os.listdir("/proc/self/fd")) == before
    digits = digest_of(hello)
    assert files(store) == {f"objects/{digits[:2]}/{digits[2:]}": data}


@pytest.mark.parametrize("named", [False, True])
def test_a_fault_leaves_nothing(
    named: bool, store: Path, tmp_path: Path, hello: Path, kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of hundreds of copies, one of which is refused; in batches of two."""
    if named:
        monkeypatch.setattr(add, "has_procfs", lambda: False)
    many = [tmp_path / str(number) for number in range(300)]
    for number, path in enumerate(many):
        path.write_bytes(b"%d" % number)
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    line = ["add", "--object-store", str(store), *map(str, many), str(tmp_path / "fifo")]
    assert main(line) == 32
    assert files(store) == {}
    monkeypatch.setattr(descriptors, "BATCH", 7)
    monkeypatch.setattr(descriptors, "OPEN", 99)
    assert main(line) == 32
    assert files(store) == {}
    assert len(os.listdir("/proc/self/fd")) == before
    assert main(line[:-1]) == 0
    assert len(files(store)) == 300


def test_durable_before_it_is_named(
    store: Path, hello: Path, image: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objects before their names, and those before the image's, and that before its root."""
    calls: list[tuple[str, str]] = []
    numbers: dict[int, str] = {}

    def place(where: object) -> str:
        if not isinstance(where, int):
            return os.path.basename(str(where))[:6]
        name = os.path.basename(os.readlink(f"/proc/self/fd/{where}"))
        # The kernel's name of a file without one.
        if name.endswith("(deleted)"):
            return numbers.setdefault(os.fstat(where).st_ino, f"new {len(numbers)}")
        return name[:6]

    def record(name: str, real: Callable[..., None], at: int = 0) -> None:
        def call(*arguments: object, **more: object) -> None:
            calls.append((name, place(arguments[at])))
            real(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    digits = digest_of(image)
    record("fsync", os.fsync)
    give_names = _cfshost.give_names

    def name(directory: int, ready: list[naming.Copy], threads: int) -> list[int]:
        calls.extend(("link", one.name[3:9]) for one in ready)
        return give_names(directory, ready, threads)

    monkeypatch.setattr(_cfshost, "give_names", name)
    record("symlink", os.symlink, at=1)
    line = ["add", "--object-store", str(store), str(hello), "--image", str(image)]
    assert main(line) == 0
    named = f"{digits[:2]}/{digits[2:]}"[:6]
    assert calls[:3] == [("fsync", "new 0"), ("link", HELLO_HEX[2:8]), ("fsync", "new 1")]
    assert calls[3] == ("link", digits[2:8]), named
    synced = calls[4:-6]
    assert {name for _, name in synced} == {"object", HELLO_HEX[:2], digits[:2]}
    assert calls[-6:-4] == [("symlink", digits[:6]), ("symlink", digits[:6])]
    assert {name for _, name in calls[-4:]} == {"store", "images", "refs", "cfs"}


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(
    number: signal.Signals, named: bool, store: Path, hello: Path, kernel: Kernel, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A terabyte of nothing would take hours."""
    if named:
        monkeypatch.setattr(add, "has_procfs", lambda: False)
    monkeypatch.setattr(add, "cores", lambda: 1)
    os.truncate(hello, 1 << 40)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), number))
    timer.start()
    # It would fill the disk if that took long.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    line = ["add", "--quiet", "--object-store", str(store), str(hello)]
    assert main(line) == 2
    timer.join()
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    assert capsys.readouterr().err == "cfs-store: interrupted\n"
    assert files(store) == {}


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


def test_a_repository_that_wants_fs_verity_gets_it(
    store: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    """Its `meta.json` is sealed: each peer takes for granted that each object is."""
    meta(store)
    fd = os.open(store / "meta.json", os.O_RDONLY)
    kernel.enable(fd, _cfs.SHA512, 4096)
    os.close(fd)
    off = ["add", "--object-store", str(store), "--verity", "off", str(hello)]
    assert main(off) == 1
    assert "--verity off: a repository whose objects all have" in capsys.readouterr().err
    kernel.supported = False
    assert main(["add", "--object-store", str(store), str(hello)]) == 32
    assert "not sealed: " in capsys.readouterr().err
    assert [name for name in files(store) if name != "meta.json"] == []


def test_only_regular_files(store: Path, tmp_path: Path, kernel: Kernel, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert main(["add", "--object-store", str(store), str(tmp_path / "fifo")]) == 32
    assert "not a regular file" in capsys.readouterr().err
