# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store` where the system has few threads or descriptors, or is old: it does all, or says in
one line what it lacks. It never hangs, and what it leaves is whole."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pyinit.host.store.check import Report, check
from pyinit.host.store.layout import Store
from tests.host.store.layered import Entry, tar
from tests.vm.once import REPOSITORY

_CODE = """
import os, resource, sys, time
os.sched_getaffinity = lambda _: {0, 1, 2}
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import add, descriptors
batch, slow, files = map(int, sys.argv[1:4])
descriptors.BATCH = batch
name = add.Adder.prepare
def named(self, *arguments):
    time.sleep(slow / 1000)
    return name(self, *arguments)
add.Adder.prepare = named
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
sys.exit(main(sys.argv[4:]))
"""
_NO_THREAD = ": no thread can be started"
_LARGE = 9 << 20  # more than one thread reads alone


@pytest.fixture(scope="session")
def few_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return preload(tmp_path_factory, "few_threads.c")


@pytest.fixture(scope="session")
def old_link(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return preload(tmp_path_factory, "old_link.c")


def preload(tmp_path_factory: pytest.TempPathFactory, source: str) -> Path:
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    path = Path(__file__).with_name(source)
    flags = ("-std=gnu17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", str(library), str(path)], check=True, timeout=600)
    return library


def execute(
    *arguments: object, batch: int = 4096, slow: int = 0, files: int = 0, **environment: object
) -> subprocess.CompletedProcess[str]:
    """`batch`: of copies; each is on the disk after `slow` milliseconds; `files`: descriptors."""
    paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/bin:/bin"}
    settings |= {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-B", "-S", "-c", _CODE, batch, slow, files, *arguments]
    return subprocess.run(
        [str(word) for word in command],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def looked_at(store: Path) -> Report:
    return check(Store(store), sealed=False, progress=lambda _, __: None)


def content(number: int) -> bytes:
    return b"%d" % number * 100


def entries(numbers: range) -> list[Entry]:
    return [(f"{number}", tarfile.REGTYPE, {}, content(number)) for number in numbers]


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, list[Path]]:
    """What `image` and `add` take: 60 files, and a large one, in three layers, in one, or in a
    directory."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(60):
        (tree / f"{number}").write_bytes(content(number))
    (tree / "large").write_bytes(b"l" * _LARGE)
    layers = [tmp_path / f"{part}.tar" for part in range(3)]
    for part, path in enumerate(layers):
        numbers = range(part * 20, part * 20 + 20)
        path.write_bytes(tar([*entries(numbers), ("large", tarfile.REGTYPE, {}, b"l" * _LARGE)]))
    layer = tmp_path / "layer.tar"
    layer.write_bytes(tar([*entries(range(60)), ("large", tarfile.REGTYPE, {}, b"l" * _LARGE)]))
    found = {"tree": [tree], "layers": layers, "layer": [layer]}
    return found | {"files": sorted(tree.iterdir())}


@pytest.mark.parametrize("kind", ["tree", "layers", "layer", "files"])
@pytest.mark.parametrize("verity", ["off", "auto"])
def test_few_threads_to_add(
    few_threads: Path, sources: dict[str, list[Path]], tmp_path: Path, kind: str, verity: str
) -> None:
    """The first ones are of the engine, and of who names what it has copied."""
    verb = "add" if kind == "files" else "image"
    codes = []
    for threads in (*range(8), 99):
        store = tmp_path / f"store{threads}"
        done = execute(
            verb, "-q", "--object-store", store, "--create", "--verity", verity, *sources[kind],
            batch=4, LD_PRELOAD=few_threads, THREADS=threads,
        )  # fmt: skip
        codes.append(done.returncode)
        if done.returncode:
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
            assert _NO_THREAD in done.stderr
            if not store.exists():  # nothing had come in
                continue
        report = looked_at(store)
        assert report.faults == []
        assert not [path for path in store.rglob(".*") if path.is_file()]
        if done.returncode:
            assert report.objects > report.images == 0
        else:
            assert report.objects == 61 + (verb == "image")
    assert codes == sorted(codes, reverse=True)
    assert (codes[0], codes[-1]) == (2, 0)


@pytest.mark.parametrize("verb", ["check", "seal"])
def test_few_threads_to_read(
    few_threads: Path, sources: dict[str, list[Path]], tmp_path: Path, verb: str
) -> None:
    store = tmp_path / "store"
    done = execute("image", "-q", "--object-store", store, "--create", "--verity", "off",
                   *sources["tree"])  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole = execute(verb, "-q", store)
    codes = []
    for threads in range(6):
        done = execute(verb, "-q", store, LD_PRELOAD=few_threads, THREADS=threads)
        if _NO_THREAD in done.stderr:
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        else:
            assert (done.returncode, done.stdout) == (whole.returncode, whole.stdout)
        codes.append(_NO_THREAD in done.stderr)
    # With one for the work all is done. `check` has had others before.
    assert codes == sorted(codes, reverse=True)
    assert (codes[0], codes[-1]) == (True, False)
    assert verb == "check" or codes == [True, *[False] * 5]


@pytest.mark.parametrize("files", [80, 160, 200, 512])
@pytest.mark.parametrize("kind", ["tree", "layers"])
def test_few_descriptors(
    sources: dict[str, list[Path]], tmp_path: Path, kind: str, files: int
) -> None:
    """One batch is named, the next one waits for that, and the one after it is made."""
    store = tmp_path / "store"
    for number in range(60, 700):
        (tmp_path / "tree" / f"{number}").write_bytes(content(number))
    (tmp_path / "2.tar").write_bytes(tar(entries(range(60, 700))))
    done = execute("image", "-q", "--object-store", store, "--create", "--verity", "off",
                   *sources[kind], slow=300 if files > 200 else 0, files=files)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = looked_at(store)
    assert (report.faults, report.images) == ([], 1)


@pytest.mark.parametrize("kind", ["tree", "layers", "files"])
def test_a_kernel_that_names_open_files_for_root_alone(
    old_link: Path, sources: dict[str, list[Path]], tmp_path: Path, kind: str
) -> None:
    verb, store = "add" if kind == "files" else "image", tmp_path / "store"
    done = execute(verb, "-q", "--object-store", store, "--create", "--verity", "off",
                   *sources[kind], LD_PRELOAD=old_link)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = looked_at(store)
    assert (report.faults, report.objects) == ([], 61 + (verb == "image"))


def test_more_large_files_than_descriptors(tmp_path: Path) -> None:
    """All threads read such a file together, and have it open no longer than that."""
    objects = tmp_path / "store" / "objects" / "ab"
    objects.mkdir(parents=True)
    for number in range(80):
        path = objects / f"{number:062x}"
        path.touch()
        os.truncate(path, 8 << 20)
    done = execute("check", "-q", tmp_path / "store", files=64)
    assert done.returncode == 32
    assert done.stdout.count("object-digest-mismatch: ") == 80
