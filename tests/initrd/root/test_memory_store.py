# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The objects in the initrd, copied into a directory in place of a tmpfs."""

import _cfs
import _cfshost
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd.kernel import mounting
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root import memory_store
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing

CONTENTS = (b"one" * 3000, b"", b"x")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Objects of both algorithms, as `--embed-objects` puts them there."""
    path = tmp_path / "objects"
    for content in CONTENTS:
        for algorithm in (_cfs.SHA256, _cfs.SHA512):
            digits = _cfshost.verity_digest(content, algorithm).hex()
            (path / digits[:2]).mkdir(parents=True, exist_ok=True)
            (path / digits[:2] / digits[2:]).write_bytes(content)
    monkeypatch.setattr(memory_store, "PATH", str(path))
    return path


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is mounted, and what is done with it."""
    path = tmp_path / "memory"
    path.mkdir()
    done: list[object] = []

    def mount(kind: str, options: list[tuple[str, str | None]], attributes: int) -> int:
        done.append((kind, dict(options), attributes))
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    monkeypatch.setattr(_cfs, "fs_mount", mount)
    monkeypatch.setattr(_cfs, "mount_set", lambda _, *what: done.append(what))
    stage = SimpleNamespace(bring_in=lambda fd: done.append(os.readlink(f"/proc/self/fd/{fd}")))
    return SimpleNamespace(path=path, done=done, stage=stage)


def make(memory: SimpleNamespace) -> memory_store.MemoryStore:
    stage: Any = memory.stage
    return memory_store.MemoryStore(stage)


def contents(path: Path) -> dict[str, bytes]:
    return {
        each.relative_to(path).as_posix(): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file()
    }


def test_each_is_copied(place: Path, memory: SimpleNamespace) -> None:
    """Read-only, and never to swap. It is there where overlayfs finds it."""
    store = make(memory)
    assert contents(memory.path) == contents(place)
    assert len(contents(place)) == 2 * len(CONTENTS)
    kind, options, attributes = memory.done.pop(0)
    assert (kind, "noswap" in options, options["size"]) == ("tmpfs", True, "100%")
    assert attributes == mounting.NOSUID | mounting.NODEV
    assert memory.done == [(mounting.RDONLY, 0, False), str(memory.path)]
    assert os.readlink(f"/proc/self/fd/{store.objects}") == str(memory.path)
    assert store.path == str(place)


def test_images_do_not_lie_there(place: Path, memory: SimpleNamespace) -> None:
    digest = Digest(_cfs.SHA256, bytes(32))
    with pytest.raises(ImageMissing, match=rf"{place}: no images, expected image {digest}"):
        make(memory).open_image(digest)


def test_one_that_is_not_what_its_name_says(place: Path, memory: SimpleNamespace) -> None:
    digits = _cfshost.verity_digest(CONTENTS[0], _cfs.SHA256).hex()
    path = place / digits[:2] / digits[2:]
    path.write_bytes(CONTENTS[0] + b"x")
    found = Digest(_cfs.SHA256, _cfshost.verity_digest(path.read_bytes(), _cfs.SHA256))
    with pytest.raises(Refused) as told:
        make(memory)
    assert str(told.value) == f"refused: measure: {path}: {found}, expected what its name says"


def test_no_descriptor_is_left(place: Path, memory: SimpleNamespace) -> None:
    """There are two for each of 256 directories."""
    before = len(os.listdir("/proc/self/fd"))
    make(memory)
    assert len(os.listdir("/proc/self/fd")) == before + 1


@pytest.mark.parametrize("kind", ["object", "fifo", "directory", "fifo for one", "objects"])
def test_links_are_not_followed(place: Path, memory: SimpleNamespace, kind: str) -> None:
    """Even to what has the right content. A FIFO hangs nobody."""
    digits = _cfshost.verity_digest(CONTENTS[0], _cfs.SHA256).hex()
    path = place / digits[:2] / digits[2:]
    if kind == "fifo":
        path.unlink()
        os.mkfifo(path)
    elif kind == "fifo for one":
        os.mkfifo(place / "zz")
    else:
        moved = {"object": path, "directory": path.parent, "objects": place}[kind]
        moved.rename(place.parent / "elsewhere")
        moved.symlink_to(place.parent / "elsewhere")
    with pytest.raises(CfsError, match=f"(store|measure): {place}"):
        make(memory)


@pytest.mark.parametrize("name", ["ab", "ab/" + "0" * 62, "0" * 62])
def test_what_is_no_object(place: Path, memory: SimpleNamespace, name: str) -> None:
    """A link, which could lead anywhere; a file in place of a directory; another name."""
    (place / name).parent.mkdir(exist_ok=True)
    if name.startswith("ab/"):
        (place / name).symlink_to("/etc/passwd")
    else:
        (place / name).write_bytes(b"x")
    with pytest.raises(CfsError, match=f"(store|measure): {place}"):
        make(memory)


def test_a_kernel_that_cannot_keep_it_from_swap(
    place: Path, memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(*_: object) -> int:
        raise OSError(errno.EINVAL, "option noswap: Invalid argument")

    monkeypatch.setattr(_cfs, "fs_mount", mount)
    with pytest.raises(Refused, match=f"{place}: option noswap: Invalid argument"):
        make(memory)


def test_is_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_store.is_there()
    monkeypatch.setattr(memory_store, "PATH", str(place / "none"))
    assert not memory_store.is_there()
    (place / "file").touch()
    monkeypatch.setattr(memory_store, "PATH", str(place / "file/x"))
    with pytest.raises(NotADirectoryError):
        memory_store.is_there()
