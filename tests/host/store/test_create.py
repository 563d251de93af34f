# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add --create`: what it makes, and what it makes nothing of."""

import _cfs
import fcntl
import gzip
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pyinit.host import atomic
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import create, make_image, metadata
from tests.host.store.containers import PARTS, one
from tests.host.store.played import HELLO, HELLO_HEX, Kernel, files, put

Capture = pytest.CaptureFixture[str]
META = metadata.text(_cfs.SHA256)


def add(store: Path, *more: object) -> int:
    return main(["add", "--quiet", "--create", "--object-store", str(store), *map(str, more)])


def names(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def test_a_repository_of_composefs_rs(tmp_path: Path, hello: Path, kernel: Kernel) -> None:
    store = tmp_path / "new"
    assert add(store, hello) == 0
    assert (store / "meta.json").read_bytes() == META
    sealed = {path.stat().st_ino for path in (store / "meta.json", *store.glob("objects/??/*"))}
    assert set(kernel.sealed) == sealed, "with fs-verity it says that all have it"
    assert add(tmp_path / "long", "--hash", "sha512", hello) == 0
    assert (tmp_path / "long/meta.json").read_bytes() == metadata.text(_cfs.SHA512)


def test_without_fs_verity_it_does_not_say_so(
    tmp_path: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    assert add(tmp_path / "off", "--verity", "off", hello) == 0
    assert not kernel.sealed
    kernel.supported = False
    assert add(tmp_path / "auto", hello) == 0
    assert add(tmp_path / "require", "--verity", "require", hello) == 32
    assert "require/meta.json: not sealed: no fs-verity on this" in capsys.readouterr().err
    assert files(tmp_path / "require") == {}


def test_the_algorithm_of_what_is_added(tmp_path: Path, kernel: Kernel) -> None:
    source = tmp_path / "source"
    (source / "objects").mkdir(parents=True)
    put(source, HELLO, algorithm=_cfs.SHA512)
    assert add(tmp_path / "new", source) == 0
    assert (tmp_path / "new/meta.json").read_bytes() == metadata.text(_cfs.SHA512)


@pytest.mark.parametrize("algorithm", [_cfs.SHA256, _cfs.SHA512])
def test_what_mkcomposefs_filled_gets_its_metadata(
    algorithm: int, store: Path, hello: Path, kernel: Kernel
) -> None:
    put(store, b"other", algorithm=algorithm)
    assert add(store, hello) == 0
    assert (store / "meta.json").read_bytes() == metadata.text(algorithm)
    # Nobody sealed the object that was there: so it must not say that all are.
    assert (store / "meta.json").stat().st_ino not in kernel.sealed


def test_two_algorithms_are_in_no_repository(store: Path, hello: Path, kernel: Kernel) -> None:
    put(store, b"a", algorithm=_cfs.SHA256)
    put(store, b"b", algorithm=_cfs.SHA512)
    assert add(store, hello) == 0
    assert not (store / "meta.json").exists()


def test_what_is_there_stays(store: Path, hello: Path, kernel: Kernel) -> None:
    (store / "meta.json").write_bytes(metadata.text(_cfs.SHA512))
    assert add(store, hello) == 0
    assert (store / "meta.json").read_bytes() == metadata.text(_cfs.SHA512)
    assert add(store, "--hash", "sha256", hello) == 1


@pytest.mark.parametrize("number", metadata.FORMATS)
def test_the_format_that_it_asks_for(
    number: int, tmp_path: Path, hello: Path, kernel: Kernel, capsys: Capture
) -> None:
    """An image that is added is in its own format. Where a repository is there, it asks for the
    same one, or nothing is added."""
    image, store, tree = (tmp_path / name for name in ("image", "new", "tree"))
    tree.mkdir()
    image.write_bytes(make_image.make(str(tree), *make_image.RUST))
    asked = f"--erofs-version={number}"
    assert add(store, asked, "--image", image, "--allow-missing") == 0
    assert (store / "meta.json").read_bytes() == metadata.text(_cfs.SHA256, number)
    before = files(store)
    assert add(store, asked, hello) == 0
    assert files(store) != before
    before = files(store)
    other = (number + 1) % 3
    assert add(store, f"--erofs-version={other}", "--hash=sha256", hello) == 1
    said = f"--erofs-version {other}: a repository that asks for format {number}\n"
    assert capsys.readouterr().err.endswith(said)
    assert files(store) == before


def test_a_format_without_create(store: Path, hello: Path, capsys: Capture) -> None:
    assert main(["add", "--object-store", str(store), "--erofs-version=2", str(hello)]) == 1
    assert "no --create, and add makes no image" in capsys.readouterr().err
    assert files(store) == {}


def plain(path: Path) -> None:
    (path / HELLO_HEX[:2]).mkdir(parents=True)
    (path / HELLO_HEX[:2] / HELLO_HEX[2:]).write_bytes(HELLO)


def ostree(path: Path) -> None:
    (path / "objects").mkdir(parents=True)
    (path / "refs").mkdir()
    (path / "config").touch()


def ostree_without_objects(path: Path) -> None:
    (path / "refs").mkdir(parents=True)
    (path / "config").touch()


def a_file(path: Path) -> None:
    path.touch()


def objects_that_lead_away(path: Path) -> None:
    path.mkdir()
    (path / "objects").symlink_to("/tmp")


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (plain, 32, "objects at its top, expected a directory without any, or no --create"),
        (ostree, 1, "an ostree repository: use ostree"),
        (ostree_without_objects, 1, "an ostree repository: use ostree"),
        (a_file, 2, "Not a directory"),
        (objects_that_lead_away, 2, "Too many levels of symbolic links"),
    ],
)
def test_what_is_something_else_is_refused_before_anything_is_made(
    make: Callable[[Path], None], code: int, said: str, tmp_path: Path, hello: Path,
    kernel: Kernel, capsys: Capture,
) -> None:  # fmt: skip
    path = tmp_path / "there"
    make(path)
    before = names(tmp_path)
    assert add(path, hello) == code
    assert said in capsys.readouterr().err
    assert names(tmp_path) == before


def test_directories_of_two_letters_are_no_objects(
    tmp_path: Path, hello: Path, kernel: Kernel
) -> None:
    (tmp_path / "there/de").mkdir(parents=True)
    (tmp_path / "there/de/file").touch()
    assert add(tmp_path / "there", hello) == 0


def test_what_was_begun_is_made_whole(tmp_path: Path, hello: Path, kernel: Kernel) -> None:
    """Killed before `meta.json`."""
    (tmp_path / "new/objects").mkdir(parents=True)
    assert add(tmp_path / "new", hello) == 0
    assert (tmp_path / "new/meta.json").read_bytes() == META


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    """The other one's file stays."""
    path = tmp_path / "new"
    write = atomic.create_file

    def late(*arguments: object) -> None:
        (path / "meta.json").write_bytes(b"of the other")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(create, "create_file", late)
    with create.created(path, _cfs.SHA256, "off"):
        pass
    assert (path / "meta.json").read_bytes() == b"of the other"
    assert os.listdir(path / "objects") == []


# ---- what comes to nothing


def broken_tar(place: Path) -> list[str]:
    (place / "tar").write_bytes(PARTS[0][:700])
    return ["image", str(place / "tar")]


def broken_gzip(place: Path) -> list[str]:
    """Of several, the second one."""
    (place / "a").write_bytes(PARTS[0])
    (place / "b").write_bytes(gzip.compress(PARTS[1])[:-9])
    return ["image", str(place / "a"), str(place / "b")]


def another_blob(place: Path) -> list[str]:
    layout = one(place / "oci", PARTS)
    for path in layout.path.glob("blobs/sha256/*"):
        if path.read_bytes() == PARTS[0]:
            path.write_bytes(PARTS[0][:-1] + b"x")
    return ["image", f"oci:{layout.path}"]


def no_image(place: Path) -> list[str]:
    """The store would be in it."""
    return ["image", str(place)]


def no_file(place: Path) -> list[str]:
    (place / "file").write_bytes(HELLO)
    os.mkfifo(place / "pipe")
    return ["add", str(place / "file"), str(place / "pipe")]


WRONG: list[tuple[Callable[[Path], list[str]], int]] = [
    (broken_tar, 32), (broken_gzip, 32), (another_blob, 32), (no_image, 32), (no_file, 32),
]  # fmt: skip


@pytest.mark.parametrize("verity", ["auto", "off"])
@pytest.mark.parametrize(("make", "code"), WRONG)
def test_what_fails_leaves_no_store(
    make: Callable[[Path], list[str]], code: int, verity: str, tmp_path: Path, kernel: Kernel,
    capsys: Capture,
) -> None:  # fmt: skip
    arguments = [*make(tmp_path), "--quiet", "--create", "--verity", verity, "--object-store"]
    before = names(tmp_path)
    assert main([*arguments, str(tmp_path / "store")]) == code
    assert names(tmp_path) == before
    # What was there before stays.
    (tmp_path / "empty").mkdir()
    assert main([*arguments, str(tmp_path / "empty")]) == code
    assert names(tmp_path) == sorted([*before, "empty"])
    assert capsys.readouterr().err.count("\n") == 2


def test_what_cannot_be_sealed_leaves_no_store(tmp_path: Path, hello: Path, no_verity: Any) -> None:
    assert add(tmp_path / "new", "--verity", "require", hello) == 32
    assert not (tmp_path / "new").exists()


def fails_after(what: Callable[[], object], path: Path) -> None:
    with create.created(path, None, "off"):
        what()
        raise ZeroDivisionError


def test_what_came_in_stays(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "new"
    with pytest.raises(ZeroDivisionError):
        fails_after(lambda: put(path, HELLO), path)
    assert (path / "meta.json").exists()
    assert (path / "objects" / HELLO_HEX[:2] / HELLO_HEX[2:]).read_bytes() == HELLO


def test_a_store_that_was_there_stays(store: Path, tmp_path: Path, kernel: Kernel) -> None:
    """An empty one too, and one that is whole only since."""
    arguments = [*broken_tar(tmp_path), "--create", "--verity", "off", "--object-store", str(store)]
    for _ in range(2):
        assert main(arguments) == 32
        assert names(store) == ["images", "meta.json", "objects"]


def test_another_one_is_in_it_already(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with ExitStack() as stack:

        def join() -> None:
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_SH)

        with pytest.raises(ZeroDivisionError):
            fails_after(join, path)
        assert names(path) == ["images", "meta.json", "objects"]
