# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image --object-store`: a directory, its contents and its image in one pass, each file
read once; or one line, and no image."""

import _cfs
import _cfshost
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz import dump_seeds
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import add_tree, descriptors, make_image
from pyinit.host.store.check import check
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root.digest import Digest
from tests.host.store.layered import dumped
from tests.host.store.played import Kernel, files
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]
HUGE = 1 << 36  # without a block: it takes long to read, unless it is cut


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Small and large files, and some of the same content."""
    tree = tmp_path / "tree"
    (tree / "d" / "e").mkdir(parents=True)
    for number in range(150):
        content = b"%d" % (number % 100) * (number % 100)
        (tree / ("d" if number % 2 else "d/e") / f"{number}").write_bytes(content)
    (tree / "large").write_bytes(os.urandom(9 << 20))
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 1 << 20)
    (tree / "again").hardlink_to(tree / "large")
    (tree / "link").symlink_to("large")
    return tree


def run(store: Path, source: object, *options: object) -> int:
    return main(["image", "--object-store", str(store), *map(str, options), str(source)])


def left(store: Path) -> list[str]:
    """What is there beside directories."""
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if not path.is_dir())


def added(
    store: Path, tree: Path, progress: Callable[[int, int], object] = lambda _, __: None
) -> bytes:
    adder = add_tree.TreeAdder(Store(store), "off", progress)
    try:
        [made] = make_image.add(adder, str(tree))
        return made
    finally:
        adder.finish()


def test_as_mkcomposefs(
    toolbox: Toolbox, tree: Path, tmp_path: Path, kernel: Kernel, capfd: Capture
) -> None:
    theirs, ours, out = tmp_path / "theirs", tmp_path / "ours", tmp_path / "out"
    toolbox.run("mkcomposefs", f"--digest-store={theirs}", tree, tmp_path / "image")
    assert run(ours, tree, "--create", "--name", "new", "-o", out, "--print-digest") == 0
    made = (tmp_path / "image").read_bytes()
    digest = make_image.digest(made)
    assert capfd.readouterr() == (f"{digest}\n", "")
    assert out.read_bytes() == made
    found = files(ours / "objects")
    assert found.pop(f"{digest.hex[:2]}/{digest.hex[2:]}") == made
    assert found == {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in theirs.rglob("*")
        if path.is_file()
    }
    assert os.readlink(ours / "images/refs/cfs/new") == f"../../{digest.hex}"
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in ours.glob("objects/*/*"))
    report = check(Store(ours), sealed=False, progress=lambda _, __: None)
    assert (report.faults, report.images) == ([], 1)
    # Sealed, each while it is added.
    assert len(kernel.sealed) == len(found) + 2
    before = left(ours)
    assert run(ours, tree) == 0
    assert capfd.readouterr() == (f"{digest}\n", "")
    assert left(ours) == sorted([*before, f"images/refs/cfs/{digest.hex}"])


@pytest.mark.parametrize(("batch", "opened"), [(1, 0), (2, 1), (3, 100), (64, 100)])
@pytest.mark.parametrize("named", [False, True])
def test_however_few_copies_there_may_be(
    tree: Path, store: Path, batch: int, opened: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where a file cannot be without a name."""
    monkeypatch.setattr(descriptors, "BATCH", batch)
    monkeypatch.setattr(descriptors, "OPEN", opened)
    if named:
        monkeypatch.setattr(add_tree, "has_procfs", lambda: False)
    before = os.listdir("/proc/self/fd")
    assert added(store, tree) == make_image.make(str(tree))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert [name for name in os.listdir(store / "objects") if name.startswith(".")] == []
    assert check(Store(store), sealed=False, progress=lambda _, __: None).faults == []
    contents = {path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert len(files(store / "objects")) == sum(len(content) > 64 for content in contents)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_is_cut_while_it_is_read(
    tmp_path: Path, store: Path, threads: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_bytes(b"x" * 99)
    (tree / "file").touch()
    os.truncate(tree / "file", HUGE)
    monkeypatch.setattr(add_tree, "cores", lambda: threads)
    if named:
        monkeypatch.setattr(add_tree, "has_procfs", lambda: False)
    with pytest.raises(Refused, match=f"source: {tree}/file: .*: it changed while it was read"):
        added(store, tree, lambda _, __: os.truncate(tree / "file", 99))
    assert left(store) == []


def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path, store: Path) -> None:
    tree, stop = tmp_path / "tree", threading.Event()
    tree.mkdir()
    (tree / "file").touch()
    os.truncate(tree / "file", 1 << 26)

    def touch() -> None:
        while not stop.is_set():
            os.utime(tree / "file", ns=(0, 0))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(Refused, match="it changed while it was read"):
            added(store, tree)
    finally:
        stop.set()
        thread.join()
    assert left(store) == []


@pytest.mark.parametrize("named", [False, True])
def test_a_signal_leaves_nothing(
    tmp_path: Path, store: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"x" * 99)
    (tree / "file").touch()
    os.truncate(tree / "file", HUGE)
    if named:
        monkeypatch.setattr(add_tree, "has_procfs", lambda: False)

    def interrupt(_: int, __: int) -> None:
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")
    with pytest.raises(KeyboardInterrupt):
        added(store, tree, interrupt)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert left(store) == []


def test_no_space_for_a_copy(tree: Path, store: Path) -> None:
    """As far as a test can have that: no file may be larger than a MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(SystemFailure) as caught:
            added(store, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.step == "store"
    assert caught.value.path in (f"{tree}/large", f"{tree}/again")
    assert caught.value.found.endswith("(EFBIG), of its copy in the store")
    assert left(store) == []


def test_what_is_there_is_measured_not_trusted(
    tree: Path, store: Path, kernel: Kernel, capfd: Capture
) -> None:
    """Another content under the name of an object, or of the image."""
    digest = make_image.digest(make_image.make(str(tree)))
    (tree / "own").write_bytes(b"o" * 100)
    raw = _cfshost.verity_digest(b"o" * 100, _cfs.SHA256).hex()
    image = make_image.digest(make_image.make(str(tree)))
    for digits in (raw, image.hex):
        wrong = store / "objects" / digits[:2] / digits[2:]
        wrong.parent.mkdir(exist_ok=True)
        wrong.write_bytes(b"other")
        assert run(store, tree) == 32
        assert f"cfs-store: refused: measure: {wrong}: sha256:" in capfd.readouterr().err
        assert not [path for path in store.glob("images/**/*") if path.is_symlink()]
        wrong.unlink()
    assert run(store, tree) == 0
    assert digest != image


def test_a_bug_of_the_writer_is_seen(
    tree: Path, store: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cfshost, "store_tree", lambda *_: [bytes(8192)])
    assert run(store, tree) == 4
    assert left(store) == []


def test_a_text_needs_its_objects(
    tree: Path, store: Path, tmp_path: Path, kernel: Kernel, capfd: Capture
) -> None:
    text = tmp_path / "text"
    pieces: list[bytes] = []
    made = make_image.make(str(tree))
    _cfshost.Image(made).dump(pieces.append)
    text.write_bytes(b"".join(pieces))
    assert run(store, text) == 32
    assert "objects that it needs are not in" in capfd.readouterr().err
    assert left(store) == []
    assert run(store, tree) == 0
    digest = make_image.digest(made)
    (store / "images" / digest.hex).unlink()
    (store / "images/refs/cfs" / digest.hex).unlink()
    capfd.readouterr()
    assert run(store, text, "--name", "of-text") == 0
    assert capfd.readouterr().out == f"{digest}\n"
    assert (store / "images/refs/cfs/of-text").exists()


def test_wrong_use(tree: Path, store: Path, tmp_path: Path, capfd: Capture) -> None:
    text = tmp_path / "text"
    text.write_bytes(dump_seeds.FILE)
    inside = tree / "store"
    for arguments, code, said in (
        (["image", tree, "-o", text, "--name", "a"], 1, "usage: --name: no store"),
        (["image", tree, "-o", text, "--create"], 1, "usage: --create: no store"),
        (["image", tree, "--object-store", store, "--digest-only"], 1, "usage: --digest-only"),
        (["image", tree, "--object-store", store, "--name", "a/b"], 1, "usage: --name a/b"),
        (["image", text, "--object-store", tmp_path / "new", "--create"], 32, "line 1: a file"),
        (["image", tmp_path / "none", "--object-store", store], 2, "No such file"),
        (["image", tree, "--object-store", inside, "--create"], 32, "is in it, expected a store"),
    ):
        assert main([str(word) for word in arguments]) == code
        output = capfd.readouterr()
        assert output.out == ""
        assert said in output.err
        assert output.err.count("\n") == 1
    assert left(store) == []
    assert not (tmp_path / "new").exists()


def test_a_repository_of_sha512(tree: Path, tmp_path: Path, kernel: Kernel, capfd: Capture) -> None:
    """All digests are of SHA-512 there, with one thread and with all of them for a large file."""
    store, out = tmp_path / "sha512", tmp_path / "out"
    assert main(["add", "--object-store", str(store), "--create", "--hash", "sha512",
                 str(tree / "large")]) == 0  # fmt: skip
    large = capfd.readouterr().out.strip()
    assert run(store, tree, "-o", str(out)) == 0
    data = out.read_bytes()
    digest = Digest(_cfs.SHA512, _cfshost.verity_digest(data, _cfs.SHA512))
    assert (store / "images" / digest.hex).read_bytes() == data
    assert large.removeprefix("sha512:").encode() in b"".join(dumped(data))
    for path, content in files(store / "objects").items():
        found = _cfshost.verity_digest(content, _cfs.SHA512).hex()
        assert path == f"{found[:2]}/{found[2:]}"
    report = check(Store(store), sealed=False, progress=lambda _, __: None)
    assert (report.faults, report.images) == ([], 1)
    capfd.readouterr()
    for source in (tree, tmp_path / "text"):
        assert main(["image", "--hash", "sha512", str(source), "--digest-only"]) == 0
        assert capfd.readouterr().out == f"{digest}\n"
        (tmp_path / "text").write_bytes(b"\n".join(dumped(data)))
    assert run(store, tree, "--hash", "sha256") == 1
    assert "usage: --hash sha256: a repository of sha512" in capfd.readouterr().err
