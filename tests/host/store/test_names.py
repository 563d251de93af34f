# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store images` and `rm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import mounts
from pyinit.host.store.roots import Needed
from pyinit.initrd.handover import status
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from tests.host.store.played import put
from tests.host.store.test_gc import add_image, add_ref, collect, content, digits, tree, whole

pytestmark = pytest.mark.usefixtures("alone")
Capture = pytest.CaptureFixture[str]


def images(store: Path, *options: str) -> int:
    return main(["images", "--no-uki", *options, str(store)])


def remove(store: Path, what: str) -> int:
    return main(["rm", "--no-uki", "--object-store", str(store), what])


def mounted(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    def keep(needed: Needed, _excepted: object) -> None:
        needed.keep_image(Digest.parse(digest, ""), "the mount at /x", "mount")

    monkeypatch.setattr(mounts, "keep", keep)


def test_images(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    used, loose = add_image(store, [1, 2], "cfs/used"), add_image(store, [2, 3, 4])
    three = digits(content(3))
    (store / "objects" / three[:2] / three[2:]).unlink()
    broken = put(store, b"no image")
    name = broken.parent.name + broken.name
    (store / "images" / name).symlink_to(f"../objects/{broken.parent.name}/{broken.name}")
    mounted(monkeypatch, used)
    assert images(store, "--json") == 0
    found = {entry["digest"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found[f"sha256:{used}"] == {
        "digest": f"sha256:{used}", "size": 4096, "objects": 2, "missing": 0, "fault": "",
        "names": [f"{store}/images/refs/cfs/used"], "mounts": ["the mount at /x"],
        "ukis": [], "records": [],
    }  # fmt: skip
    assert (found[f"sha256:{loose}"]["missing"], found[f"sha256:{loose}"]["objects"]) == (1, 3)
    assert found[f"sha256:{name}"]["fault"].startswith("no composefs image: ")
    assert images(store) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f"sha256:{used}  4096 bytes, whole")
    assert lines[at + 1 : at + 3] == [
        f"  name {store}/images/refs/cfs/used", "  in use by the mount at /x"
    ]  # fmt: skip
    assert f"sha256:{loose}  4096 bytes, 1 of 3 objects missing" in lines


def test_images_of_objects_alone(tmp_path: Path, capsys: Capture) -> None:
    """They are found by how they begin."""
    repository = tmp_path / "r"
    (repository / "objects").mkdir(parents=True)
    digest = add_image(repository, [1, 2])
    put(repository, bytes(8192))
    assert images((repository / "objects").rename(tmp_path / "store")) == 0
    assert capsys.readouterr().out == f"sha256:{digest}  4096 bytes, whole\n"


def test_images_where_something_cannot_be_read(store: Path, capsys: Capture) -> None:
    """It is a list: what is not known is said."""
    digest = add_image(store, [1])
    Path(status.PATH).write_text("x")
    assert images(store) == 0
    output = capsys.readouterr()
    assert output.out == f"sha256:{digest}  4096 bytes, whole\n"
    assert "cfs-store: warning: not known whether it needs an image: " in output.err


def test_rm_of_a_name(store: Path, capsys: Capture) -> None:
    digest = add_image(store, [1, 2], "cfs/one")
    add_ref(store, "images", "two", digest)
    assert remove(store, "cfs/one") == 0
    assert "images/refs/cfs/one is removed; the image stays until" in capsys.readouterr().out
    assert collect(store, "--now") == 0
    assert whole(store, digest)
    assert remove(store, "images/refs/two") == 0
    assert whole(store, digest)
    assert collect(store, "--now") == 0
    assert not tree(store)


def test_rm_of_an_image(store: Path) -> None:
    """All its names go, and it can be had back."""
    digest = add_image(store, [1, 2], "cfs/one")
    add_ref(store, "images", "two", digest)
    before = tree(store)
    assert remove(store, f"sha256:{digest}") == 0
    assert {name for name in tree(store) if name.startswith("images/")} == set()
    assert set(before) - set(tree(store)) == {
        f"images/{digest}", "images/refs/cfs/one", "images/refs/two"
    }  # fmt: skip
    assert collect(store, "--keep", digest) == 0
    assert whole(store, digest)


def test_rm_of_objects_alone(tmp_path: Path) -> None:
    repository = tmp_path / "r"
    (repository / "objects").mkdir(parents=True)
    digest = add_image(repository, [1])
    store = (repository / "objects").rename(tmp_path / "store")
    assert remove(store, digest) == 0
    assert not (store / digest[:2] / digest[2:]).exists()
    assert collect(store, "--now") == 0
    assert not tree(store)


def test_rm_of_what_is_needed(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    digest = add_image(store, [1], "cfs/one")
    before = tree(store)
    with monkeypatch.context() as patch:
        mounted(patch, digest)
        assert remove(store, digest) == 32
        assert (
            "needed by the mount at /x, expected an image that nothing" in capsys.readouterr().err
        )

    def unread(needed: Needed, _excepted: object) -> None:
        needed.unread.append(Refused("store", "/x", "an overlay"))

    with monkeypatch.context() as patch:
        patch.setattr(mounts, "keep", unread)
        assert remove(store, digest) == 32
    assert tree(store) == before


@pytest.mark.parametrize("what", ["ab" * 32, "sha512:" + "ab" * 64])
def test_rm_of_no_image(store: Path, what: str) -> None:
    assert remove(store, what) == 32


@pytest.mark.parametrize(
    ("what", "code"),
    [("", 1), ("..", 1), ("../x", 1), ("a//b", 1), ("/etc/passwd", 1), ("a/", 1), ("file", 1),
     ("absent", 2), ("out/passwd", 2), ("sha256:ab", 2)],
)  # fmt: skip
def test_rm_of_no_name(store: Path, what: str, code: int) -> None:
    add_image(store, [1], "cfs/one")
    (store / "images/refs/file").touch()
    (store / "images/refs/out").symlink_to("/etc")
    before = tree(store)
    assert remove(store, what) == code
    assert tree(store) == before
