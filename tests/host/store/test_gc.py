# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store gc`: what is needed stays, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import stat as modes
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import fsverity, gc, mounts
from pyinit.host.store.image import missing, read
from pyinit.host.store.layout import Store
from pyinit.host.store.roots import Needed
from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from tests.host.store import written
from tests.host.store.played import put
from tests.host.store.written import directory, stored

pytestmark = pytest.mark.usefixtures("alone")
Capture = pytest.CaptureFixture[str]


def content(number: int) -> bytes:
    return b"content %d" % number


def digits(data: bytes) -> str:
    return fsverity.digest_blocks(iter([data]), 1).hex


def add_image(store: Path, numbers: list[int], ref: str = "") -> str:
    """An image of the contents of these numbers, and those; its digest."""
    for number in numbers:
        put(store, content(number))
    names = [(b"f%d" % number, stored(digits(content(number)))) for number in sorted(numbers)]
    path = put(store, written.image(directory(*names)))
    digest = path.parent.name + path.name
    if (store / "images").is_dir():
        link = store / "images" / digest
        if not link.is_symlink():
            link.symlink_to(f"../objects/{digest[:2]}/{digest[2:]}")
        if ref:
            add_ref(store, "images", ref, digest)
    return digest


def add_ref(store: Path, kind: str, ref: str, name: str) -> Path:
    place = store / kind / "refs" / ref
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(store / kind / name, place.parent))
    return place


def tree(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): os.readlink(path) if path.is_symlink() else "file"
        for path in sorted(store.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def whole(store: Path, digest: str) -> bool:
    """An image that is named has all of its objects."""
    opened = Store(store)
    path = store / "images" / digest
    return path.exists() and missing([read(path)], opened.objects)[1] == 0


def collect(store: Path, *options: object) -> int:
    return main(["gc", "--no-uki", *map(str, options), str(store)])


def test_what_no_name_needs_goes(store: Path, capsys: Capture) -> None:
    kept = add_image(store, [1, 2], "cfs/kept")
    gone = add_image(store, [2, 3])
    before = tree(store)
    assert collect(store, "--dry-run") == 0
    said = capsys.readouterr().out
    assert tree(store) == before
    assert said.startswith(f"image {gone}\n3 objects are needed\n2 objects (")
    assert collect(store) == 0
    assert whole(store, kept)
    assert not (store / "images" / gone).is_symlink()
    [run] = (store / "gc").iterdir()
    moved = {name.removeprefix(f"gc/{run.name}/") for name in tree(store) if name.startswith("gc/")}
    three = digits(content(3))
    assert moved == {
        f"images/{gone}", f"{gone[:2]}/{gone[2:]}", f"{three[:2]}/{three[2:]}"
    }  # fmt: skip
    # Again: it has not waited for a day yet.
    assert collect(store) == 0
    assert run.is_dir()
    assert capsys.readouterr().out.endswith(" wait\n")
    assert collect(store, "--now") == 0
    assert not (store / "gc").exists()
    assert whole(store, kept)


def test_the_grace_is_counted_from_the_move(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, content(1))
    assert collect(store) == 0
    now = time.time()
    for later, there in ((86300, True), (86500, False)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert collect(store) == 0
        assert (store / "gc").exists() is there


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("2m", 120), ("1h", 3600), ("7d", 604800)]
)
def test_a_time(text: str, seconds: int, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def played(*_: object, grace: int, dry_run: bool) -> gc.Report:
        seen.append(grace)
        return gc.Report()

    monkeypatch.setattr(gc, "collect", played)
    assert collect(store, "--grace", text) == 0
    assert seen == [seconds]
    for wrong in ("", "x", "1.5h", "-1", "d", "1w"):
        assert collect(store, f"--grace={wrong}") == 1


def test_what_is_needed_again_comes_back(store: Path, capsys: Capture) -> None:
    one, two = add_image(store, [1, 2]), add_image(store, [2, 3])
    before = tree(store)
    assert collect(store) == 0
    assert not list((store / "images").iterdir())
    assert collect(store, "--now", "--keep", one, "--keep", two) == 0
    assert tree(store) == before
    assert "5 objects moved back: they are needed again" in capsys.readouterr().out


@pytest.mark.parametrize("option", [[], ["--now"]])
def test_what_is_mounted_meanwhile_has_its_contents_at_the_end(
    store: Path, option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_image(store, [1, 2])
    before = tree(store)
    looks: list[None] = []

    def keep(needed: Needed, _excepted: object) -> None:
        looks.append(None)
        if len(looks) == 2:  # the mount came after the first look
            needed.keep_image(Digest.parse(digest, ""), "the mount at /x", "mount")

    monkeypatch.setattr(mounts, "keep", keep)
    assert collect(store, *option) == 0
    assert tree(store) == before
    assert len(looks) == 2


def test_what_cannot_be_read_at_the_second_look_brings_all_back(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(store, [1, 2])
    before = tree(store)
    looks: list[None] = []

    def keep(needed: Needed, _excepted: object) -> None:
        looks.append(None)
        if len(looks) == 2:
            needed.unread.append(Refused("store", "/x", "an overlay"))

    monkeypatch.setattr(mounts, "keep", keep)
    assert collect(store, "--now") == 32
    assert tree(store) == before


def _link_out(store: Path) -> None:
    add_ref(store, "images", "out", "../../elsewhere/" + "ab" * 32)


def _absolute(store: Path) -> None:
    digest = add_image(store, [7])
    (store / "images/refs").mkdir(exist_ok=True)
    (store / "images/refs/a").symlink_to(store / "images" / digest)


def _short(store: Path) -> None:
    add_ref(store, "images", "short", "ab" * 31)


def _absent(store: Path) -> None:
    add_ref(store, "images", "absent", "ab" * 32)


def _a_file(store: Path) -> None:
    (store / "images/refs").mkdir(exist_ok=True)
    (store / "images/refs/file").touch()


def _refs_a_link(store: Path) -> None:
    shutil.rmtree(store / "images/refs")
    (store / "images/refs").symlink_to("/tmp")


def _images_a_link(store: Path) -> None:
    (store / "images").rename(store / "other")
    (store / "images").symlink_to("other")


def _changed(store: Path) -> None:
    digest = add_image(store, [5, 6], "changed")
    path = store / "objects" / digest[:2] / digest[2:]
    path.write_bytes(written.image(directory()))


def _no_image(store: Path) -> None:
    path = put(store, b"text")
    name = path.parent.name + path.name
    (store / "images" / name).symlink_to(f"../objects/{path.parent.name}/{path.name}")
    add_ref(store, "images", "text", name)


def _deep(store: Path) -> None:
    add_ref(store, "images", "a/" * 70 + "x", add_image(store, [8]))


def _stream_nowhere(store: Path) -> None:
    add_ref(store, "streams", "oci/x", "none")


def _gc_a_link(store: Path) -> None:
    (store / "gc").symlink_to(store / "objects")


def _gc_a_file(store: Path) -> None:
    (store / "gc").touch()


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (_link_out, 32, "/images/refs/out: a link to '../../../elsewhere/ab"),
        (_absolute, 32, "/images/refs/a: an absolute link to '"),
        (_short, 32, "/images/refs/short: leads to images/abab"),
        (_absent, 32, "which is not there, expected an image"),
        (_a_file, 32, "/images/refs/file: neither a link nor a directory, expected a link"),
        (_refs_a_link, 2, "/images/refs: Not a directory (ENOTDIR)"),
        (_images_a_link, 2, "/images: Not a directory (ENOTDIR)"),
        (_changed, 32, "refused: measure: "),
        (_no_image, 32, "no composefs image: "),
        (_deep, 32, "more than 64 directories deep"),
        (_stream_nowhere, 32, "/streams/refs/oci/x: leads to streams/none: "),
        (_gc_a_link, 2, "/gc: Not a directory (ENOTDIR)"),
        (_gc_a_file, 2, "/gc: Not a directory (ENOTDIR)"),
    ],
)
def test_nothing_goes_where_a_root_cannot_be_read(
    store: Path, spoil: Callable[[Path], None], code: int, said: str, capsys: Capture
) -> None:
    add_image(store, [1, 2], "kept")
    add_image(store, [3])
    spoil(store)
    before = tree(store)
    assert collect(store, "--now") == code
    assert tree(store) == before
    assert said in capsys.readouterr().err


def test_strange_files_stay(store: Path, capsys: Capture) -> None:
    add_image(store, [1], "kept")
    put(store, content(3))
    fan = store / "objects/ab"
    fan.mkdir(exist_ok=True)
    for name in ("README", "A" * 62, "0" * 61, ".hidden.tmp"):
        (fan / name).touch()
    (fan / ("1" * 62)).mkdir()
    (fan / ("2" * 62)).symlink_to("/etc/passwd")
    os.mkfifo(fan / ("3" * 62))
    (store / "objects/cd").symlink_to(fan)
    (store / "objects/notes").touch()
    (store / "images/folder").mkdir()
    (store / "images/file").touch()
    assert collect(store) == 0
    [run] = (store / "gc").iterdir()
    (store / "gc/notes").touch()
    (run / "notes").touch()
    three = digits(content(3))
    (run / three[:2] / "notes").touch()
    (run / three[:2] / ("4" * 62)).symlink_to("/etc/passwd")
    before = {name for name in tree(store) if not name.endswith(three[2:])}
    capsys.readouterr()
    assert collect(store, "--now") == 0
    assert set(tree(store)) == before
    assert modes.S_ISFIFO((fan / ("3" * 62)).lstat().st_mode)
    said = capsys.readouterr().err
    for name in ("gc/notes", f"{run.name}/notes", f"{three[:2]}/notes", "ab/README", "objects/cd",
                 "images/folder", "images/file", f"ab/{'2' * 62}", f"ab/{'1' * 62}"):  # fmt: skip
        assert f"{name}: no object\n" in said, name


def test_the_objects_alone_of_a_repository(store: Path, capsys: Capture) -> None:
    """The names that need them would not be seen."""
    add_image(store, [1], "kept")
    before = tree(store)
    assert collect(store / "objects", "--now") == 32
    assert tree(store) == before
    assert f"expected {store}" in capsys.readouterr().err


def test_a_store_of_objects_alone(tmp_path: Path, capsys: Capture) -> None:
    """Its images are objects like any."""
    repository = tmp_path / "r"
    (repository / "objects").mkdir(parents=True)
    kept, gone = add_image(repository, [1, 2]), add_image(repository, [2, 3])
    store = (repository / "objects").rename(tmp_path / "store")
    assert collect(store, "--now", "--keep", f"sha256:{kept}") == 0
    assert f"image {gone}\n" in capsys.readouterr().out
    names = {kept, digits(content(1)), digits(content(2))}
    assert {name.replace("/", "") for name in tree(store)} == names
    assert collect(store, "--keep", gone) == 32
    assert "refused: store: --keep " in capsys.readouterr().err


def test_another_file_system_is_not_entered(
    store: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted on objects/ab, it is passed over; on what has roots, nothing goes."""
    add_image(store, [1], "kept")
    path = put(store, content(3))
    put(store, content(4))
    real: Callable[[int], int] = mountinfo.mount_id
    elsewhere = store / "objects" / path.parent.name

    def mount_id(fd: int) -> int:
        there = os.readlink(f"/proc/self/fd/{fd}").startswith(str(elsewhere))
        return real(fd) + there

    monkeypatch.setattr(mountinfo, "mount_id", mount_id)
    assert collect(store, "--now") == 0
    assert f"passed over: {elsewhere}: no object" in capsys.readouterr().err
    assert path.exists()
    for hidden in ("images", "images/refs", "gc", "objects"):
        (store / "gc").mkdir(exist_ok=True)
        elsewhere = store / hidden
        put(store, content(5))
        before = tree(store)
        assert collect(store, "--now") == 2
        assert f"{hidden}: another file system is mounted there (EXDEV)" in capsys.readouterr().err
        assert tree(store) == before


def test_a_directory_that_cannot_be_read(
    store: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(store, [1], "a/kept")
    put(store, content(2))
    before = tree(store)
    real = os.open

    def refused(path: str, *rest: int, **more: int | None) -> int:
        if path == "a":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    assert collect(store, "--now") == 2
    monkeypatch.undo()
    assert f"{store}/images/refs/a: Permission denied (EACCES)" in capsys.readouterr().err
    assert tree(store) == before


@dataclass
class Plan:
    """Images by their contents, and those that a name needs."""

    images: list[list[int]]
    named: set[int] = field(default_factory=set)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    numbers = st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True)
    images = draw(st.lists(numbers, min_size=1, max_size=6))
    return Plan(images, draw(st.sets(st.integers(0, len(images) - 1))))


@given(plan=plans(), loose=st.sets(st.integers(0, 20)), now=st.booleans())
def test_exactly_what_is_reached_stays(plan: Plan, loose: set[int], now: bool) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(mounts, "overlays", list)
    with tempfile.TemporaryDirectory() as directory_name, patch.context():
        store = Path(directory_name) / "store"
        for name in ("objects", "images"):
            (store / name).mkdir(parents=True)
        reached: set[str] = set()
        for index, numbers in enumerate(plan.images):
            name = f"n{index}" if index in plan.named else ""
            digest = add_image(store, numbers, name)
            if name:
                reached |= {digest, *(digits(content(number)) for number in numbers)}
        for number in loose:
            put(store, content(number))
        assert collect(store, *(["--now"] if now else [])) == 0
        found = {name[8:].replace("/", "") for name in tree(store) if name.startswith("objects/")}
        assert found == reached
        assert not now or not (store / "gc").exists()
    patch.undo()
