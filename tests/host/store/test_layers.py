# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of tar files: the image of the directory that they unpack to, or one line and
nothing."""

import _cfshost
import gzip
import os
import re
import resource
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzz import tar_seeds
from fuzz.tar_seeds import BROKEN, END, NEXT, before, file, hard_link, header, layers, link, records
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import add, add_tree, descriptors, make_image, naming
from pyinit.host.store import layers as reader
from pyinit.host.store.changes import Changes
from pyinit.host.store.check import check
from pyinit.host.store.layout import Store
from pyinit.initrd.report.errors import Refused, SystemFailure
from tests.host.store.layered import Entry, dumped, image, tar, written
from tests.host.store.played import Kernel, files
from tests.vm.once import REPOSITORY
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main(["image", *map(str, arguments)])


@pytest.fixture
def root(tmp_path: Path) -> list[str]:
    """Two layers, one of them compressed."""
    lower = tar([
        ("usr/", tarfile.DIRTYPE, {"mode": 0o751, "mtime": 7}, b""),
        ("usr/a", tarfile.REGTYPE, {"mode": 0o644}, b"a" * 100),
        ("usr/b", tarfile.LNKTYPE, {"linkname": "usr/a"}, b""),
        ("usr/large", tarfile.REGTYPE, {}, bytes(range(256)) * 4096),
        ("usr/gone", tarfile.REGTYPE, {}, b"g" * 99),
        ("sysroot", tarfile.DIRTYPE, {}, b""),
        ("var", tarfile.DIRTYPE, {}, b""),
    ])  # fmt: skip
    upper = tar([
        ("usr/.wh.gone", tarfile.REGTYPE, {}, b""),
        ("etc/c", tarfile.LNKTYPE, {"linkname": "usr/a"}, b""),
        ("usr/a", tarfile.REGTYPE, {}, b"new" * 50),
    ])  # fmt: skip
    return written(tmp_path, [gzip.compress(lower), upper])


# ---- each rule


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule(tmp_path: Path, capfd: Capture, rule: str) -> None:
    paths = written(tmp_path, BROKEN[rule].split(NEXT))
    with pytest.raises(_cfshost.BadLayer) as caught, reader.files(paths) as parts:
        _cfshost.image_of_layers(
            reader._raw(parts), 1, 0, 1, _cfshost.Adjustment(), lambda _, __: None
        )
    assert caught.value.args[3] == rule
    # Two of them: whatever one is, it is taken for a tar file.
    empty = str(tmp_path / "empty.tar")
    Path(empty).write_bytes(END)
    assert run(empty, *paths, "-o", tmp_path / "out") == 32
    said = capfd.readouterr().err
    assert rule in said
    assert said.startswith(f"cfs-store: refused: source: {paths[caught.value.args[0]]}: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_rule_is_in_the_list() -> None:
    sources = Path(__file__).parents[3] / "csrc/host"
    text = "".join((sources / name).read_text() for name in ("tar.cc", "layers.cc"))
    found = re.findall(r'(?:\bfail\(|\bbroken\([^"]*?)"([^"]*)"', text)
    assert set(found) == BROKEN.keys()


def test_the_layer_and_the_file_are_named(tmp_path: Path, root: list[str], capfd: Capture) -> None:
    bad = tmp_path / "bad.tar"
    for data, place in (
        (tar_seeds.link(b"l", b"..") + file(b"l/x") + END,
         "/l/x: no image can be made: a path that leads through a link"),
        (file(b"../x") + END, "../x: no image can be made: a path with .."),
        (file() + header(mode=b"x") + END, "at byte 1024: a field that is no number"),
    ):  # fmt: skip
        bad.write_bytes(data)
        assert run(*root, bad, "--digest-only") == 32
        assert f"cfs-store: refused: source: {bad}: {place}" in capfd.readouterr().err


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_a_layer_that_is_cut(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Wherever that is: no image."""
    whole = compress(file() + file(b"b", os.urandom(700)) + END)
    [path] = written(tmp_path, [whole])
    image([path])
    end = len(whole) - (1023 if compress is bytes else 0)
    for length in (*range(0, end, 61), end - 1):
        Path(path).write_bytes(whole[:length])
        with pytest.raises(Refused, match=re.escape(path)):
            image([path])


# ---- how it is compressed


def test_compressed(toolbox: Toolbox, tmp_path: Path) -> None:
    data = tar([(f"{number}", tarfile.REGTYPE, {}, os.urandom(70000)) for number in range(9)])
    plain = image(written(tmp_path, [data]))
    compressed = tmp_path / "zstd"
    (tmp_path / "half").write_bytes(data[300_000:])
    for part in ("0.tar", "half"):
        toolbox.run("zstd", "-q", tmp_path / part)
    whole = (tmp_path / "0.tar.zst").read_bytes()
    (tmp_path / "head").write_bytes(data[:300_000])
    toolbox.run("zstd", "-q", "--check", tmp_path / "head")
    frames = (tmp_path / "head.zst").read_bytes() + (tmp_path / "half.zst").read_bytes()
    members = (
        gzip.compress(data[:5]) + gzip.compress(data[5:300_000]) + gzip.compress(data[300_000:])
    )
    for stored in (whole, frames, gzip.compress(data), members, gzip.compress(data, 0)):
        compressed.write_bytes(stored)
        assert reader.is_tar(str(compressed))
        assert image([str(compressed)]) == plain
        broken = bytearray(stored)
        broken[len(stored) // 2] ^= 0xFF
        for bad in (bytes(broken), stored[:-1], stored[: len(stored) // 2], stored + b"x"):
            compressed.write_bytes(bad)
            with pytest.raises(Refused, match=r"compressed|broken|zeros|header|ends"):
                image([str(compressed)])


def test_a_window_is_bounded(toolbox: Toolbox, tmp_path: Path) -> None:
    """zstd's --long=28 wants 256 MiB of who reads it."""
    for log, message in (
        (27, "at byte 0: a field that is no number"),
        (28, "what is compressed in it is broken"),
    ):
        command = [*toolbox.command("zstd"), "-q", f"--long={log}"]
        done = subprocess.run(
            command, input=b"x" * (1 << 20), capture_output=True, check=True, timeout=600
        )
        with pytest.raises(Refused, match=message):
            image(written(tmp_path, [done.stdout]))


# ---- names


def test_hard_links(root: list[str]) -> None:
    """Each name a file of its own, as of a directory; with --bootable one file. A link to a file of
    a layer below has that file's content, whatever the name becomes."""
    lines = {line.split()[0]: line.split() for line in dumped(image(root))}
    assert lines[b"/etc/c"][8:] == lines[b"/usr/b"][8:] != lines[b"/usr/a"][8:]
    assert lines[b"/etc/c"][3] == lines[b"/usr/b"][3] == b"1"
    assert b"/usr/gone" not in lines
    assert lines[b"/etc"][2:8] == [b"40755", b"2", b"0", b"0", b"0", b"0.0"]
    assert b"/usr" in lines
    boot = Path(root[0]).with_name("boot.tar")
    boot.write_bytes(layers(tar_seeds.directory(b"boot")))
    made = dumped(image([*root, str(boot)], Changes(bootable=True)))
    lines = {line.split()[0]: line.split() for line in made}
    assert lines[b"/usr/b"][2] == b"@100644"
    assert lines[b"/usr/b"][8] == b"/etc/c"
    assert lines[b"/etc/c"][3] == b"2"
    assert lines[b"/"][2] == b"40751"  # as /usr


def test_changes(root: list[str]) -> None:
    made = dumped(image(root, Changes(excluded=("/usr/[ab]",), by_root=True, latest=3)))
    lines = {line.split()[0]: line.split() for line in made}
    assert set(lines) == {b"/", b"/etc", b"/etc/c", b"/usr", b"/usr/large", b"/var", b"/sysroot"}
    assert lines[b"/usr"][7] == b"3.0"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_however_many_threads(root: list[str], threads: int) -> None:
    expected = image(root)
    with reader.files(root) as parts:
        adjustment = _cfshost.Adjustment()
        made = _cfshost.image_of_layers(
            reader._raw(parts), threads, 0, 1, adjustment, lambda _, __: None
        )
    assert made == expected


# ---- a store


def test_into_a_store(root: list[str], tmp_path: Path, kernel: Kernel, capfd: Capture) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    assert run(*root, "--object-store", store, "--create", "--name", "new", "-o", out,
               "--print-digest") == 0  # fmt: skip
    digest = make_image.digest(out.read_bytes())
    assert capfd.readouterr() == (f"{digest}\n", "")
    assert out.read_bytes() == image(root)
    found = files(store / "objects")
    assert found.pop(f"{digest.hex[:2]}/{digest.hex[2:]}") == out.read_bytes()
    # What a layer above replaces or takes away is there too, for gc.
    assert sorted(map(len, found.values())) == [99, 100, 150, 1 << 20]
    assert os.readlink(store / "images/refs/cfs/new") == f"../../{digest.hex}"
    report = check(Store(store), sealed=False, progress=lambda _, __: None)
    assert (report.faults, report.images) == ([], 1)
    assert len(kernel.sealed) == len(found) + 2


def added(store: Path, paths: list[str], progress: Any = lambda _, __: None) -> bytes:
    adder = add_tree.TreeAdder(Store(store), "off", progress)
    try:
        [made] = reader.add(adder, reader.files(paths), [(0, 1)])
        return made
    finally:
        adder.finish()


def test_large_files_go_to_the_disk_while_the_rest_is_read(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MiB are enough for that, however few files these are: the layer goes on when they do."""
    begun, seen = threading.Event(), list[bool]()
    prepare = add.Adder.prepare

    def begin(self: add.Adder, directory: int, copies: list[naming.Copy]) -> object:
        begun.set()
        return prepare(self, directory, copies)

    def write() -> None:
        with (tmp_path / "layer").open("wb") as layer:
            layer.write(file(b"large", b"l" * (16 << 20)) + file(b"next", b"n" * (1 << 20)))
            layer.flush()
            seen.append(begun.wait(30))
            layer.write(END)

    monkeypatch.setattr(add.Adder, "prepare", begin)
    monkeypatch.setattr(add_tree, "cores", lambda: 1)
    os.mkfifo(tmp_path / "layer")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        added(store, [str(tmp_path / "layer")])
    finally:
        writer.join()
    assert seen == [True]


@pytest.mark.parametrize(("batch", "opened"), [(1, 0), (2, 7), (64, 100)])
@pytest.mark.parametrize("named", [False, True])
def test_however_few_copies_there_may_be(
    tmp_path: Path,
    store: Path,
    batch: int,
    opened: int,
    named: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a batch, and open until they get their names."""
    contents = [b"%d" % number * 100 for number in range(90)]
    parts = [
        tar([(f"{i}", tarfile.REGTYPE, {}, contents[i]) for i in numbers])
        for numbers in (range(60), range(30, 90), range(10))
    ]
    paths = written(tmp_path, parts)
    monkeypatch.setattr(descriptors, "BATCH", batch)
    monkeypatch.setattr(descriptors, "OPEN", opened)
    monkeypatch.setattr(add_tree, "cores", lambda: 3)
    if named:
        monkeypatch.setattr(add_tree, "has_procfs", lambda: False)
    before = os.listdir("/proc/self/fd")
    assert added(store, paths) == image(paths)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert [name for name in os.listdir(store / "objects") if name.startswith(".")] == []
    assert sorted(files(store / "objects").values()) == sorted(contents)


def test_what_fails_leaves_nothing(
    root: list[str],
    tmp_path: Path,
    store: Path,
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Capture,
) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(tar([("x", tarfile.REGTYPE, {}, b"x" * 5000)])[:3000])
    assert run(*root, bad, "--object-store", store) == 32
    assert "it ends in the middle of a file" in capfd.readouterr().err
    assert not [path for path in (store / "images").rglob("*") if path.is_symlink()]
    assert not files(store / "objects")

    def interrupt(_: int, __: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(descriptors, "BATCH", 1)  # so that it is asked
    with pytest.raises(KeyboardInterrupt):
        added(store, root, interrupt)
    assert not files(store / "objects")


@pytest.mark.parametrize("opened", [0, 3, 100])
@pytest.mark.parametrize("sealed", ["auto", "off"])
def test_a_layer_that_breaks_after_many_batches(
    tmp_path: Path,
    store: Path,
    kernel: Kernel,
    opened: int,
    sealed: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Capture,
) -> None:
    """Of the copies that are on the disk, open or by a temporary name, nothing is left."""
    bad = tmp_path / "bad.tar"
    many: list[Entry] = [(f"{i}", tarfile.REGTYPE, {}, b"%d" % i * 100) for i in range(90)]
    bad.write_bytes(tar([*many, ("x", tarfile.REGTYPE, {}, b"x" * 5000)])[:-12000])
    monkeypatch.setattr(descriptors, "BATCH", 2)
    monkeypatch.setattr(descriptors, "OPEN", opened)
    most = [0]
    real = os.link

    def linked(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        most[0] = max(most[0], len(os.listdir(store / "objects")))

    monkeypatch.setattr(os, "link", linked)
    before = os.listdir("/proc/self/fd")
    assert run(bad, "--object-store", store, "--verity", sealed) == 32
    assert "it ends " in capfd.readouterr().err
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert os.listdir(store / "objects") == []
    assert (most[0] > 50) == (opened < 10)


def test_no_space_for_a_copy(root: list[str], store: Path) -> None:
    """As far as a test can have that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    try:
        with pytest.raises(SystemFailure) as caught:
            added(store, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.step, caught.value.path) == ("store", f"{root[0]}: /usr/large")
    assert caught.value.found.endswith("(EFBIG), of its copy in the store")
    assert not files(store / "objects")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A GB of zeros in a MB, of which a MB is in memory at a time."""
    path = tmp_path / "bomb"
    with gzip.open(path, "wb", 1) as out:
        out.write(header(b"zeros", size=1 << 30))
        for _ in range(1 << 10):
            out.write(bytes(1 << 20))
        out.write(END)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(image([str(path)])) == 16384
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


ENTRIES = 200_000
PATHS = [b"%d/" % number + b"d/" * 2000 + b"f" for number in range(200)]
# Compressed it is a hundredth or less.
REPEATED = {
    "one name": [header() * ENTRIES],
    "whiteouts of it": [file(b".wh.a", b"") * ENTRIES],
    "hard links": [file(b"b"), hard_link(b"a", b"b") * ENTRIES],
    "directories that nothing makes": [before(b"L", path) + file(b"f") for path in PATHS],
    "long targets of links": [before(b"K", b"t" * 4000) + link(b"l", b"")] * (1 << 13),
    "xattrs": [records((b"SCHILY.xattr.user.a", b"v" * 32000)) + file()] * (1 << 10),
}


_PEAK = r"""
import _cfshost, os, re, sys
# ru_maxrss has what the program before exec had too.
def peak(): return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) << 10
parts = [(os.open(path, os.O_RDONLY), b"", None, 0, b"") for path in sys.argv[2:]]
before, how = peak(), _cfshost.Adjustment()
try: _cfshost.image_of_layers(parts, 1, 0, 1, how, lambda *_: None, int(sys.argv[1]))
except _cfshost.BadLayer as broken: print(peak() - before, broken.args[3])
"""


@pytest.mark.parametrize("kind", REPEATED)
def test_memory_for_entries_is_bounded(tmp_path: Path, kind: str) -> None:
    """Of all layers together."""
    most = 16 << 20
    data = gzip.compress(b"".join(REPEATED[kind]) + END, 1)
    paths = written(tmp_path, [data, data, data])
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(most), *paths],
        env={"PYTHONPATH": str(REPOSITORY / "build/lib")},
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    used, _, rule = done.stdout.strip().partition(" ")
    assert rule == "more files, or longer names, than 4 GiB of memory hold"
    assert int(used) < 2 * most
    image(paths[:1])


def test_records_for_all_files_are_not_kept(tmp_path: Path) -> None:
    """Of those that say that a file is sparse there may be any number."""
    data = records((b"GNU.sparse.name.1", b"x"), kind=b"g") + END
    with pytest.raises(Refused, match="a sparse file in the form of GNU tar"):
        image(written(tmp_path, [data]))


# ---- what is a tar file


def test_what_is_taken_for_a_tar_file(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "x"
    for data, expected in (
        (END, True), (file() + END, True), (tar([]), True), (gzip.compress(b"x"), True),
        (b"/ 0 40755 2 0 0 0 0.0 - - -\n" + b"#" * 600, False), (b"", False), (bytes(511), False),
        (b"x" * 600, False), (file(b"a", magic=b"") + END, True),
    ):  # fmt: skip
        path.write_bytes(data)
        assert reader.is_tar(str(path)) == expected
    assert not reader.is_tar(str(tmp_path))
    assert not reader.is_tar(str(tmp_path / "absent"))


def test_wrong_use(root: list[str], tmp_path: Path, capfd: Capture) -> None:
    for arguments, code, said in (
        ((*root, tmp_path), 1, f"usage: {tmp_path}: one of several sources, expected tar files"),
        ((*root, "-"), 1, "usage: -: one of several sources, expected tar files"),
        ((*root, tmp_path / "absent"), 2, f"source: {tmp_path / 'absent'}: No such file"),
        ((*root, "/proc/self/mem"), 2, "source: /proc/self/mem: Input/output error"),
    ):
        assert run(*arguments, "--digest-only") == code
        output = capfd.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert said in output.err
