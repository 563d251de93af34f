# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Superblocks of mke2fs and mkfs.btrfs, and what somebody could make of them."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import filesystem
from pyinit.initrd.state import image_file
from tests.vm.toolbox import Toolbox

SIZE = {"ext4": 8 << 20, "btrfs": 120 << 20}
MAKERS = {"ext4": ["mke2fs", "-q", "-F", "-t", "ext4"], "btrfs": ["mkfs.btrfs", "-q"]}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("images")
    found = {}
    for kind, command in MAKERS.items():
        path = directory / kind
        with path.open("xb") as file:
            file.truncate(SIZE[kind])
        Toolbox().run(*command, path)
        found[kind] = start(path)
    return found


def start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(image_file.NEEDED)


def changed(data: bytes, at: int, layout: str, value: int | bytes) -> bytes:
    whole = bytearray(data)
    struct.pack_into(layout, whole, at, value)
    return bytes(whole)


@pytest.mark.parametrize("kind", SIZE)
def test_one_as_it_is_made(images: dict[str, bytes], kind: str) -> None:
    assert filesystem.detect(images[kind]) == [kind]
    assert image_file.fault(kind, images[kind]) is None
    assert image_file.fault(kind, images[kind][:-1]) == "shorter than any file system"


@pytest.mark.parametrize(
    ("kind", "at", "layout", "value", "found"),
    [
        ("ext4", 1024 + 0xE4, "<I", 0xFE07, "its journal is on another device"),
        ("ext4", 1024 + 0xE0, "<I", 0, "its journal is on another device"),
        ("ext4", 1024 + 0x60, "<I", 0x2C2 | 0x8, "the journal of another file system"),
        (
            "ext4",
            1024 + 0x200,
            "<64s",
            b"journal_path=/dev/vda1,\x1b",
            r"mount options of its own, 'journal_path=/dev/vda1,\x1b'",
        ),
        ("btrfs", 0x10088, "<Q", 2, "2 devices"),
        ("btrfs", 0x10088, "<Q", 0, "0 devices"),
        ("btrfs", 0x10038, "<Q", 1 << 32 | 1, "the seed of another file system"),
    ],
)
def test_one_that_reaches_out(
    images: dict[str, bytes], kind: str, at: int, layout: str, value: int | bytes, found: str
) -> None:
    assert image_file.fault(kind, changed(images[kind], at, layout, value)) == found


def test_an_ext4_without_a_journal(images: dict[str, bytes]) -> None:
    (features,) = struct.unpack_from("<I", images["ext4"], 1024 + 0x5C)
    data = changed(images["ext4"], 1024 + 0x5C, "<I", features & ~0x4)
    data = changed(data, 1024 + 0xE0, "<I", 0)
    assert image_file.fault("ext4", data) is None


def test_external_journals_as_they_are_made(tmp_path: Path) -> None:
    journal, path = tmp_path / "journal", tmp_path / "path"
    for file in (journal, path):
        with file.open("xb") as made:
            made.truncate(SIZE["ext4"])
    Toolbox().run("mke2fs", "-q", "-F", "-b", "1024", "-O", "journal_dev", journal)
    assert image_file.fault("ext4", start(journal)) == "the journal of another file system"
    Toolbox().run("mke2fs", "-q", "-F", "-t", "ext4", path)
    Toolbox().run("tune2fs", "-E", "mount_opts=journal_path=/dev/vda1", path)
    assert (image_file.fault("ext4", start(path)) or "").startswith("mount options of its own")


@given(kind=st.sampled_from(["ext4", "btrfs"]), data=st.binary(max_size=200))
def test_anything_gives_an_answer(kind: str, data: bytes) -> None:
    whole = data + bytes(image_file.NEEDED)
    assert image_file.fault(kind, data) == "shorter than any file system"
    image_file.fault(kind, whole)
