# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Threads that have no layer help those that have one: whatever they do, image and store are those
of one thread, and what is wrong is what one thread says first."""

from __future__ import annotations

import _cfs
import _cfshost
import gzip
import os
import random
import resource
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.tar_seeds import END, header
from pyinit.host.store import fsverity
from pyinit.host.store import layers as reader
from tests.host.store.layered import Entry, tar, written
from tests.host.store.processes import SECONDS, apart, can_mount, cfs_store
from tests.vm.once import REPOSITORY

PIECE = 1 << 18  # PIECE of buffer.h
PAGE = 4096
SIZES = [0, 1, 64, 65, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, PIECE - PAGE, PIECE - 1, PIECE,
         PIECE + 1, 2 * PIECE, 3 * PIECE + 5, 12 * PIECE + PAGE]  # fmt: skip
MANY = 1 << 12
Progress = Callable[[int, int], object]
Store = dict[bytes, bytes]


def files(sizes: Sequence[int], start: int = 0, seed: int = 0) -> list[Entry]:
    some = random.Random(seed)
    return [
        (f"{number}", tarfile.REGTYPE, {}, some.randbytes(size))
        for number, size in enumerate(sizes, start)
    ]


def stored(
    parts: Sequence[reader.Part],
    threads: int,
    place: Path,
    limit: int = MANY,
    progress: Progress = lambda _, __: None,
    algorithm: int = _cfs.SHA256,
) -> tuple[bytes, Store]:
    """The image, and what is to be in the store."""
    found: Store = {}

    def take(copies: list[_cfshost.Stored]) -> None:
        assert len(copies) <= limit
        for _, fd, name, digest, size in copies:
            found[digest] = os.pread(fd, size + 1, 0)
            assert (len(found[digest]), name) == (size, "")
            os.close(fd)

    target = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        [image] = _cfshost.store_layers(
            reader._raw(parts), target, threads, [(0, 1)],
            _cfshost.Adjustment(algorithm=algorithm), False, "x", limit, progress, take,
        )  # fmt: skip
    finally:
        os.close(target)
    return image, found


def digests_only(parts: Sequence[reader.Part], threads: int, progress: Progress) -> bytes:
    how = _cfshost.Adjustment()
    return _cfshost.image_of_layers(reader._raw(parts), threads, 0, 1, how, progress)


@contextmanager
def nothing_left() -> Iterator[None]:
    """No descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GB of them, in a MB, in one file."""
    path = tmp_path_factory.mktemp("zeros") / "zeros"
    with gzip.open(path, "wb", 1) as out:
        out.write(header(b"zeros", size=1 << 30))
        for _ in range(1 << 10):
            out.write(bytes(1 << 20))
        out.write(END)
    return str(path)


@given(
    sizes=st.lists(
        st.lists(st.one_of(st.sampled_from(SIZES), st.integers(0, 2 * PIECE)), max_size=40),
        min_size=1, max_size=3,
    ),
    seed=st.integers(0, 3),
    threads=st.integers(2, 7),
    limit=st.sampled_from([1, 2, 3, 7, 64, MANY]),
    algorithm=st.sampled_from([_cfs.SHA256, _cfs.SHA512]),
)  # fmt: skip
def test_image_and_store_are_those_of_one_thread(
    sizes: list[list[int]],
    seed: int,
    threads: int,
    limit: int,
    algorithm: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("layers")
    entries = [files(some, 100 * at, seed) for at, some in enumerate(sizes)]
    paths = written(place, [tar(some) for some in entries])
    results = []
    with nothing_left():
        for count in (1, threads):
            with reader.files(paths) as parts:
                results.append(
                    stored(parts, count, place, limit if count > 1 else MANY, algorithm=algorithm)
                )
    assert results[0] == results[1]
    contents = {content for layer in entries for *_, content in layer if len(content) > 64}
    assert results[1][1] == {
        fsverity.digest_blocks(iter([content]), algorithm).pair[1]: content for content in contents
    }


def test_a_layer_is_read_by_more_than_one_thread(zeros: str) -> None:
    """By what each of them has had of the processor."""
    ticks: dict[str, int] = {}

    def look(_: int, __: int) -> None:
        for task in os.listdir("/proc/self/task"):
            try:
                fields = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(task) != threading.get_native_id():
                ticks[task] = max(ticks.get(task, 0), int(fields[11]) + int(fields[12]))

    before = set(os.listdir("/proc/self/task"))
    with reader.files([zeros]) as parts:
        expected = digests_only(parts, 1, lambda _, __: None)
    with reader.files([zeros]) as parts:
        assert digests_only(parts, 2, look) == expected
    used = [count for task, count in ticks.items() if task not in before]
    assert len(used) == 2
    assert min(used) * 10 > sum(used)


# ---- what is wrong


def first_fault(paths: Sequence[str], threads: int, place: Path, most: int) -> tuple[object, ...]:
    """Where no file may have more than `most` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with reader.files(paths) as parts, pytest.raises(_cfshost.BadLayer) as caught:
            stored(parts, threads, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return tuple(caught.value.args)


@pytest.mark.parametrize("large", [5000, 2 * PIECE + 1, 20 * PIECE])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_copy_that_fails(tmp_path: Path, threads: int, large: int) -> None:
    """The first one in the layer, whatever comes behind it: another one, or a broken rule."""
    sizes = [4000] * 200 + [large] + [4000] * 30 + [6000, 3 * PIECE] * 5
    data = tar(files(sizes))
    for number, cut in enumerate((len(data), len(data) - 3 * PIECE)):
        [path] = written(tmp_path, [data[:cut]])
        for _ in range(5):
            with nothing_left():
                found = first_fault([path], threads, tmp_path, 4096)
            assert found[:3] == (0, b"/200", 27), number  # EFBIG
            assert found[3] == "its copy in the store"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_layer_that_breaks(tmp_path: Path, threads: int) -> None:
    """In the middle of a file, behind many that others still hash; or it is another one."""
    sizes = [4000] * 100 + [20 * PIECE]
    data = tar(files(sizes))
    [path] = written(tmp_path, [data[: -3 * PIECE]])
    for _ in range(5):
        with (
            nothing_left(),
            reader.files([path]) as parts,
            pytest.raises(_cfshost.BadLayer) as caught,
        ):
            stored(parts, threads, tmp_path)
        layer, inside, number, rule, _at = caught.value.args
        assert (layer, inside, number, rule) == (0, b"100", 0, "it ends in the middle of a file")
        with nothing_left(), reader.files([path]) as parts:
            other = [part._replace(digest=bytes(32)) for part in parts]
            with pytest.raises(_cfshost.OtherDigest):
                stored(other, threads, tmp_path)


@pytest.mark.skipif(not can_mount(), reason="no mount namespace")
def test_no_space(tmp_path: Path) -> None:
    """A file system that is full in the middle of the only layer."""
    [path] = written(tmp_path, [tar(files([300_000, 5000] * 30))])
    (tmp_path / "full").mkdir()
    command = cfs_store("image", "-q", "--create", "--verity", "off", "--object-store",
                        tmp_path / "full/store", path)  # fmt: skip
    script = (
        'full=$1; shift; mount -t tmpfs -o size=4m tmpfs "$full"; code=0; "$@" || code=$?\n'
        'find "$full" -type f; exit $code'
    )
    done = subprocess.run(
        [*apart(script), tmp_path / "full", *command],
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'build/lib'}", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cfs-store: error: store: {path}: /")
    assert done.stderr.endswith("No space left on device (ENOSPC), of its copy in the store\n")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("to_store", [True, False])
def test_stopped_in_the_middle(zeros: str, tmp_path: Path, threads: int, to_store: bool) -> None:
    asked = 0

    def interrupt(files: int, size: int) -> None:
        nonlocal asked
        asked += 1
        assert (files, size < 1 << 30) == (0, True)
        raise KeyboardInterrupt

    with nothing_left(), reader.files([zeros]) as parts:
        if to_store:
            with pytest.raises(KeyboardInterrupt):
                stored(parts, threads, tmp_path, progress=interrupt)
        else:
            with pytest.raises(KeyboardInterrupt):
                digests_only(parts, threads, interrupt)
    assert asked == 1


@pytest.mark.parametrize("content", [b"", b"content"])
def test_stopped_where_there_is_no_end(tmp_path: Path, content: bytes) -> None:
    """Of what comes behind the end of a tar file, which may be anything, or of gzip's own members,
    in which there is nothing: `cat a.tar /dev/zero | cfs-store image -`."""
    more = bytes(1 << 20) if content else gzip.compress(b"") * (1 << 15)
    first = header(b"file", size=len(content)) + content.ljust(512, b"\0") + END if content else b""
    written_mb = 0

    def write() -> None:
        nonlocal written_mb
        with open(path, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            pipe.write(first or more)
            while written_mb < 8000:
                pipe.write(more)
                written_mb += 1

    def interrupt(_: int, __: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "endless"
    os.mkfifo(path)
    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(KeyboardInterrupt), reader.files([str(path)]) as parts:
        digests_only(parts, 2, interrupt)
    writer.join()
    assert written_mb < 8000
