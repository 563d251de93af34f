# SPDX-License-Identifier: Apache-2.0 OR MIT
"""csrc/runtime/heap.c: blocks do not overlap, keep their content, and come from libc in the end."""

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.frozen import flags
from tests.frozen.conftest import ROOT

PAGE = 4096
SIZE = 16 * PAGE
KEPT, TAIL = 16, 4
"""Pages: of heap.c, and of the heap with a tail."""
HERE = Path(__file__).parent

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), st.integers(0, 3000), st.just(0)),
        st.tuples(st.just("calloc"), st.integers(0, 3000), st.just(0)),
        st.tuples(st.just("free"), st.integers(0, 50), st.just(0)),
        st.tuples(st.just("realloc"), st.integers(0, 50), st.integers(1, 9000)),
    ),
    max_size=60,
)


class Heap:
    """A heap of its own: each copy of the library has its own variables."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path), use_errno=True)
        self.start = ctypes.addressof(ctypes.c_char.in_dll(library, "cfs_heap_start"))
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.malloc = ctypes.CFUNCTYPE(pointer, size)(("cfs_malloc", library))
        self.calloc = ctypes.CFUNCTYPE(pointer, size, size)(("cfs_calloc", library))
        self.realloc = ctypes.CFUNCTYPE(pointer, pointer, size)(("cfs_realloc", library))
        self.free = ctypes.CFUNCTYPE(None, pointer)(("cfs_free", library))
        self.open = library.heap_open
        self.was_full = ctypes.CFUNCTYPE(ctypes.c_bool)(("heap_was_full", library))

    def inside(self, block: int) -> bool:
        return self.start <= block < self.start + SIZE

    def page(self, block: int | None) -> int:
        """Which page of the heap it lies in."""
        assert block is not None
        return (block - self.start) // PAGE


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Heap]:
    return _maker(tmp_path_factory.mktemp("heap"), SIZE // PAGE, 0)


@pytest.fixture(scope="module")
def tailed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Heap]:
    """With two pages more than what is kept for larger blocks, and a tail."""
    return _maker(tmp_path_factory.mktemp("tailed"), KEPT + 2, TAIL)


def _maker(directory: Path, pages: int, tail: int) -> Callable[[], Heap]:
    built = directory / "heap.so"
    sources = [ROOT / "csrc/runtime/heap.c", HERE / "heap_window.c"]
    command = ["gcc", "-std=c17", "-O1", "-shared", "-fPIC", *flags.hardening(), "-Werror"]
    command += [f"-DHEAP_PAGES={pages}", f"-DTAIL_PAGES={tail}"]
    subprocess.run([*command, *sources, "-o", built], check=True, timeout=600)
    count = itertools.count()

    def make() -> Heap:
        # The loader knows a file by its inode: a copy is another library.
        return Heap(Path(shutil.copy(built, directory / f"{next(count)}.so")))

    return make


@given(operations=OPERATIONS, opened=st.booleans())
def test_blocks_keep_their_content(
    new: Callable[[], Heap], tailed: Callable[[], Heap], operations: list[tuple[str, int, int]],
    opened: bool,
) -> None:  # fmt: skip
    for heap in (new(), tailed()):
        _check_content(heap, operations, opened)


def _check_content(heap: Heap, operations: list[tuple[str, int, int]], opened: bool) -> None:
    if opened:
        heap.open()
    blocks: list[tuple[int, bytes]] = []
    for number, (what, first, second) in enumerate(operations):
        fill = bytes([number % 255 + 1])
        if what in {"malloc", "calloc"}:
            block = heap.malloc(first) if what == "malloc" else heap.calloc(1, first)
            if block is None:
                assert not opened
                continue
            assert what == "malloc" or not any(ctypes.string_at(block, first))
            content = fill * first
        elif not blocks:
            continue
        else:
            old, content = blocks.pop(first % len(blocks))
            assert ctypes.string_at(old, len(content)) == content
            if what == "free":
                heap.free(old)
                continue
            block = heap.realloc(old, second)
            if block is None:
                assert not opened
                blocks.append((old, content))
                continue
            kept = min(second, len(content))
            assert ctypes.string_at(block, kept) == content[:kept]
            content = fill * second
        assert block % 16 == 0
        ctypes.memmove(block, content, len(content))
        blocks.append((block, content))
    for block, content in blocks:
        assert ctypes.string_at(block, len(content)) == content


@pytest.mark.parametrize("size", [16, 512, 513, 5000])
def test_what_is_full_says_so_until_it_is_opened(new: Callable[[], Heap], size: int) -> None:
    heap = new()
    blocks: list[int] = []
    while block := heap.malloc(size):
        assert heap.inside(block)
        blocks.append(block)
    assert len(blocks) * size > SIZE * 0.8
    heap.open()
    other = heap.malloc(size)
    assert other is not None
    assert not heap.inside(other)
    heap.free(other)
    heap.free(blocks[3])
    assert heap.malloc(size) == blocks[3]  # what is freed here is given out here


def test_a_large_block_that_was_freed_is_divided(new: Callable[[], Heap]) -> None:
    """CPython 3.13 fills the window while the snapshot is made: no room is to be lost."""
    heap = new()
    block, behind = heap.malloc(9000), heap.malloc(600)
    assert block is not None
    ctypes.memset(block, 7, 9000)
    heap.free(block)
    parts = [heap.malloc(size) for size in (3000, 600, 4000)]
    assert parts[0] == block
    for part in parts:
        assert part is not None
        assert block <= part < block + 9000
        assert not any(ctypes.string_at(part, 600))
    assert heap.malloc(9000) not in (None, block, behind)


def test_a_small_block_takes_the_place_of_a_larger_one(new: Callable[[], Heap]) -> None:
    """Where no page is left for its own size."""
    heap = new()
    blocks: list[int] = []
    while block := heap.malloc(512):
        blocks.append(block)
    assert heap.malloc(16) is None
    heap.free(blocks[3])
    assert heap.malloc(16) == blocks[3]
    assert heap.malloc(16) is None
    heap.free(blocks[3])
    assert heap.malloc(512) == blocks[3]


def test_small_blocks_go_to_the_tail_before_the_last_pages(tailed: Callable[[], Heap]) -> None:
    """Those are for larger blocks, which cannot lie in the tail; and for small ones at last."""
    heap, end = tailed(), KEPT + 2
    blocks = [heap.malloc(512) for _ in range((end + TAIL) * PAGE // 512)]
    pages = list(dict.fromkeys(map(heap.page, blocks)))
    assert pages == [0, 1, 2, *range(end, end + TAIL), *range(3, end)]
    assert heap.malloc(512) is None
    for block in (blocks[0], blocks[30]):
        assert block is not None
        ctypes.memset(block, 7, 512)
        heap.free(block)
        assert heap.malloc(500) == block
        assert not any(ctypes.string_at(block, 512))


def test_larger_blocks_stay_out_of_the_tail(tailed: Callable[[], Heap]) -> None:
    heap, end = tailed(), KEPT + 2
    for _ in range((3 + TAIL) * PAGE // 512):
        assert heap.malloc(512)
    seen = set()
    while block := heap.malloc(5000):
        seen.add(heap.page(block))
    assert seen
    assert seen <= set(range(3, end))
    assert heap.was_full()


def test_it_tells_that_it_was_full(new: Callable[[], Heap]) -> None:
    heap = new()
    assert not heap.was_full()
    while heap.malloc(5000):
        pass
    assert heap.was_full()


def test_a_block_that_moves_out_of_the_heap_leaves_its_place_free(
    new: Callable[[], Heap],
) -> None:
    heap = new()
    heap.open()
    block = heap.malloc(600)
    assert block is not None
    ctypes.memset(block, 7, 600)
    moved = heap.realloc(block, 100_000)
    assert moved is not None
    assert not heap.inside(moved)
    assert ctypes.string_at(moved, 600) == b"\7" * 600
    assert heap.malloc(600) == block
    back = heap.realloc(moved, 50)
    assert back is not None
    heap.free(back)


@pytest.mark.parametrize("size", [40, 700])
def test_what_is_freed_is_cleared_until_it_is_opened(new: Callable[[], Heap], size: int) -> None:
    """So that a snapshot does not depend on what was in it."""
    heap = new()
    block = heap.malloc(size)
    assert block is not None
    ctypes.memset(block, 7, size)
    heap.free(block)
    assert not any(ctypes.string_at(block, size))
    assert heap.malloc(size) == block
    assert not any(ctypes.string_at(block, size))


def test_a_block_is_kept_where_it_still_fits(new: Callable[[], Heap]) -> None:
    heap = new()
    block = heap.malloc(100)
    assert heap.realloc(block, 112) == block
    assert heap.realloc(block, 113) != block
    assert heap.realloc(None, 100) is not None


def test_a_block_is_made_smaller_without_memory(new: Callable[[], Heap]) -> None:
    heap = new()
    block = heap.malloc(5000)
    assert block is not None
    ctypes.memset(block, 7, 5000)
    while heap.malloc(40):
        pass
    assert heap.realloc(block, 40) == block
    assert ctypes.string_at(block, 40) == b"\7" * 40
    assert heap.realloc(block, 5100) is None


@pytest.mark.parametrize("sizes", [(1 << 63, 2), (1 << 40, 1 << 40), (1, (1 << 64) - 1)])
@pytest.mark.parametrize("opened", [True, False])
def test_sizes_beyond_all_memory(
    new: Callable[[], Heap], sizes: tuple[int, int], opened: bool
) -> None:
    heap = new()
    if opened:
        heap.open()
    assert heap.calloc(*sizes) is None
    assert heap.malloc(max(sizes)) is None


def test_nothing_is_freed(new: Callable[[], Heap]) -> None:
    new().free(None)
