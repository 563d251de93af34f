# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cpio archives: read back by our own reader and by GNU cpio, byte for byte."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.uki.cpio import CpioError, Entry, find_archives, read_cpio, write_cpio

PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\n", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
).filter(lambda part: part not in (".", "..", "TRAILER!!!"))
NAMES = st.lists(PART, min_size=1, max_size=4).map("/".join)


def entry_of(*fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Entry]:
    """builds() would make up those that are left out too."""
    return st.tuples(*fields).map(lambda given: Entry(*given))


FILES = entry_of(
    NAMES,
    st.integers(0, 0o777).map(lambda mode: stat.S_IFREG | 0o400 | mode),
    st.binary(max_size=600),
)
LINKS = entry_of(NAMES, st.just(stat.S_IFLNK | 0o777), NAMES.map(lambda name: name.encode()))
DIRECTORIES = entry_of(NAMES, st.just(stat.S_IFDIR | 0o755))


def without_conflicts(entries: list[Entry]) -> list[Entry]:
    kept: dict[str, Entry] = {}
    for entry in entries:
        parts = entry.name.split("/")
        parents = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if entry.name in kept or any(name.startswith(entry.name + "/") for name in kept):
            continue
        if any(parent in kept and not stat.S_ISDIR(kept[parent].mode) for parent in parents):
            continue
        kept[entry.name] = entry
    return list(kept.values())


TREES = st.lists(FILES | LINKS | DIRECTORIES, max_size=8).map(without_conflicts)


@given(TREES)
def test_round_trip(entries: list[Entry]) -> None:
    data = write_cpio(entries)
    assert len(data) % 512 == 0
    assert write_cpio(entries) == data
    found, end = read_cpio(data)
    assert not data[end:].strip(b"\0")
    names = [entry.name for entry in found]
    assert len(names) == len(set(names))
    assert [entry for entry in found if entry in entries] == entries
    for entry in found:
        assert os.path.dirname(entry.name) in ("", *names[: names.index(entry.name)])
        if entry not in entries:
            assert entry == Entry(entry.name, stat.S_IFDIR | 0o755)


@settings(max_examples=25, deadline=None)
@given(entries=TREES)
def test_gnu_cpio_reads_what_was_written(
    entries: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("cpio")
    subprocess.run(
        ["cpio", "-i", "--quiet", "--no-preserve-owner"],
        input=write_cpio(entries),
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=600,
    )
    for entry in entries:
        path = directory / entry.name
        if stat.S_ISLNK(entry.mode):
            assert os.fsencode(os.readlink(path)) == entry.data
        elif stat.S_ISREG(entry.mode):
            assert path.read_bytes() == entry.data
            assert path.stat().st_mode == entry.mode
        else:
            assert path.is_dir()


def test_what_gnu_cpio_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a/file")
    done = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        input=b"a\na/file\nlink\n",
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=600,
    )
    entries, end = read_cpio(done.stdout)
    assert [(entry.name, entry.data) for entry in entries] == [
        ("a", b""),
        ("a/file", b"content"),
        ("link", b"a/file"),
    ]
    assert not done.stdout[end:].strip(b"\0")


def test_parents_once_and_a_given_parent_keeps_its_mode() -> None:
    data = write_cpio(
        [
            Entry("a/b/c", stat.S_IFREG | 0o444),
            Entry("a/d", stat.S_IFREG | 0o444),
            Entry("a", stat.S_IFDIR | 0o700),
        ]
    )
    assert [(entry.name, stat.S_IMODE(entry.mode)) for entry in read_cpio(data)[0]] == [
        ("a", 0o700),
        ("a/b", 0o755),
        ("a/b/c", 0o444),
        ("a/d", 0o444),
    ]


def test_fields_of_the_header() -> None:
    data = write_cpio([Entry("console", stat.S_IFCHR | 0o600, rdev=(5, 1))])
    fields = [int(data[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
    #      inode mode     uid gid links time size device rdev  name check
    assert fields == [1, 0o020600, 0, 0, 1, 0, 0, 0, 0, 5, 1, 8, 0]


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("/absolute", stat.S_IFREG)],
        [Entry("", stat.S_IFREG)],
        [Entry("a//b", stat.S_IFREG)],
        [Entry("a/../b", stat.S_IFREG)],
        [Entry("./a", stat.S_IFREG)],
        [Entry("a\0b", stat.S_IFREG)],
        [Entry("TRAILER!!!", stat.S_IFREG)],
        [Entry("TRAILER!!!/file", stat.S_IFREG)],
        [Entry("a" * 4096, stat.S_IFREG)],
        [Entry("no-type", 0o644)],
        [Entry("directory", stat.S_IFDIR, b"data")],
        [Entry("device", stat.S_IFBLK, rdev=(1 << 12, 0))],
        [Entry("twice", stat.S_IFREG), Entry("twice", stat.S_IFREG)],
        [Entry("file", stat.S_IFREG), Entry("file/child", stat.S_IFREG)],
    ],
)
def test_not_written(entries: list[Entry]) -> None:
    with pytest.raises(CpioError):
        write_cpio(entries)


SAMPLE = write_cpio([Entry("a/file", stat.S_IFREG | 0o444, b"content")])


def test_cut_anywhere_is_refused() -> None:
    end = read_cpio(SAMPLE)[1]
    for length in range(end - 4):
        with pytest.raises(CpioError):
            read_cpio(SAMPLE[:length])


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_any_byte_changed_gives_entries_or_a_refusal(position: int, value: int) -> None:
    data = bytearray(SAMPLE)
    data[position] = value
    try:
        read_cpio(bytes(data))
    except CpioError:
        pass


@pytest.mark.parametrize("field", [b"+0000001", b" 0000001", b"0000_001", b"0x000001"])
def test_a_number_is_hex_digits_only(field: bytes) -> None:
    with pytest.raises(CpioError):
        read_cpio(SAMPLE[:6] + field + SAMPLE[14:])


@given(st.binary(max_size=64).filter(lambda data: b"0707" not in data), st.integers(0, 3))
def test_archives_are_found_behind_a_compressed_one(opaque: bytes, pads: int) -> None:
    opaque += bytes(-len(opaque) % 4)
    first = write_cpio([Entry("one", stat.S_IFREG | 0o444, b"1" + SAMPLE)])
    initrd = first + opaque + bytes(4 * pads) + SAMPLE
    assert [(offset, entries[-1].name) for offset, _, entries in find_archives(initrd)] == [
        (0, "one"),
        (len(first) + len(opaque) + 4 * pads, "a/file"),
    ]


def test_an_archive_that_the_kernel_would_not_see_is_not_found() -> None:
    assert list(find_archives(b"x" + SAMPLE)) == []
    assert list(find_archives(b"xxxx" + SAMPLE[:300])) == []


@pytest.mark.parametrize("size", [b"00000001", b"00000003"])  # it is 2: "a" and its NUL
def test_a_name_ends_with_its_one_nul(size: bytes) -> None:
    assert SAMPLE[94:102] == b"00000002"
    with pytest.raises(CpioError):
        read_cpio(SAMPLE[:94] + size + SAMPLE[102:])
