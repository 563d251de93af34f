# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Extensions: what is refused, and what is left. The mounts are made up here; systemd, which merges
them, is in tests/vm/test_extensions.py."""

import _cfs
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd.kernel import files
from pyinit.initrd.kernel.mounting import NODEV, NOSUID, RDONLY
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import compose, extension, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, VerifiedImage

ONE, TWO = (Digest(1, bytes([number]) * 32) for number in (1, 2))
SYSEXT, CONFEXT = "usr/lib/extension-release.d", "etc/extension-release.d"


class World:
    """A store, trees in place of mounts, and what is done to them."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        self.done: list[object] = []
        self.opened: list[int] = []
        self.images = {ONE: tmp_path / "one", TWO: tmp_path / "two"}
        self.free = True
        self.root = self._made(self._tree(tmp_path / "root", "usr/lib/os-release", "ID=debian"))
        for place in self.images.values():
            place.mkdir()
        patch.setattr(extension, "VerifiedImage", self._verified)
        patch.setattr(compose, "compose", self._compose)
        patch.setattr(compose, "detach", lambda mount, _: self.done.append(("detach", mount)))
        patch.setattr(compose, "check_free", lambda place, _: self.done.append(("free", place)))
        patch.setattr(stacking, "is_free", lambda *_: self.free)
        patch.setattr(files, "make_parents", lambda path: self.done.append(("make", path)))
        patch.setattr(_cfs, "mount_clone", lambda mount, _: mount + 1000)

    def close(self) -> None:
        for fd in self.opened:
            os.close(fd)

    @staticmethod
    def _tree(place: Path, name: str, text: str) -> Path:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        return place

    def says(self, digest: Digest, name: str, text: str) -> None:
        self._tree(self.images[digest], name, text)

    def _made(self, tree: Path) -> Any:
        mount = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        self.opened.append(mount)
        return SimpleNamespace(mount=mount, is_free=False, used_loop=True, canary="usr/x")

    def _verified(self, fd: int, path: str, digest: Digest) -> Any:
        self.done.append(("measure", path))
        return SimpleNamespace(fd=fd, path=path, digest=digest)

    def _compose(
        self, _stage: object, image: Any, objects: int, attributes: int, **how: bool
    ) -> Any:
        assert (objects, attributes, how) == (7, RDONLY | NODEV | NOSUID, {"spare": True})
        made = self._made(self.images[image.digest])
        made.image = image
        return made

    objects = 7

    def open_image(self, digest: Digest) -> tuple[int, str]:
        if digest not in self.images:
            raise ImageMissing("open", "/s/store/x", "No such file (ENOENT)", f"image {digest}")
        return -1, f"/s/store/{self.images[digest].name}"

    def compose(
        self, named: dict[str, Digest], may_lack: bool = False,
        stackable: tuple[str, ...] = ("/", "/usr", "/etc"),
    ) -> "dict[str, tuple[dict[str, Any], tuple[int, str, VerifiedImage] | None]]":  # fmt: skip
        stage: Any = SimpleNamespace(target="/s")
        store: Any = self
        return extension.compose_all(
            stage, store, self.root, named, may_lack=may_lack, stackable=list(stackable)
        )

    def refusal(self, named: dict[str, Digest], **how: Any) -> str:
        with pytest.raises(Refused) as caught:
            self.compose(named, **how)
        return str(caught.value)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.close()


def test_each_is_composed_for_its_place(world: World) -> None:
    world.says(ONE, f"{CONFEXT}/extension-release.site", "ID=debian")
    world.says(TWO, f"{SYSEXT}/extension-release.debug", "ID=_any")
    found: Any = world.compose({"confext.site": ONE, "sysext.debug": TWO})
    assert list(found) == ["confext.site", "sysext.debug"]
    trees = [tree for _, tree in found.values()]
    assert [place for _, place, _ in trees] == ["/run/confexts/site", "/run/extensions/debug"]
    assert [image.digest for *_, image in trees] == [ONE, TWO]
    clones = [tree for tree, *_ in trees]
    assert world.done == [
        ("measure", "/s/store/one"), ("make", "/run/confexts/site/"),
        ("detach", clones[0] - 1000), ("free", "/run/confexts/site"),
        ("measure", "/s/store/two"), ("make", "/run/extensions/debug/"),
        ("detach", clones[1] - 1000), ("free", "/run/extensions/debug"),
    ]  # fmt: skip
    assert found["sysext.debug"][0] == {
        "digest": str(TWO), "image": "/store/two", "mounted": "/run/extensions/debug", "loop": True,
        "canary": "usr/x",
    }  # fmt: skip


def test_a_missing_one(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.says(TWO, f"{SYSEXT}/extension-release.debug", "ID=debian")
    del world.images[ONE]
    named = {"sysext.absent": ONE, "sysext.debug": TWO}
    text = f"open: /s/store/x: No such file (ENOENT), expected image {ONE}, which is sysext.absent "
    assert text + "in the UKI" in world.refusal(named)
    found = world.compose(named, may_lack=True)
    assert found["sysext.absent"] == ({"digest": str(ONE)}, None)
    assert found["sysext.debug"][1] is not None
    assert capfd.readouterr().err == (
        "warning: sysext.absent is left out: /s/store/x: No such file (ENOENT)\n"
    )


@pytest.mark.parametrize("may_lack", [False, True])
def test_a_wrong_one_is_never_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch, may_lack: bool
) -> None:
    """Else it is as good as a missing one for who writes the disk, and the image stays on it."""

    def wrong(_fd: int, path: str, digest: Digest) -> None:
        raise Refused("measure", path, str(TWO), str(digest))

    monkeypatch.setattr(extension, "VerifiedImage", wrong)
    assert "measure: /s/store/one" in world.refusal({"sysext.a": ONE}, may_lack=may_lack)


def test_no_place_for_one_more_overlay(world: World) -> None:
    world.says(ONE, f"{CONFEXT}/extension-release.a", "ID=debian")
    text = "overlay: /run/confexts/a: no overlay can be stacked above {}, expected a place for "
    text += "systemd-confext"
    named = {"confext.a": ONE}
    assert text.format("/etc") in world.refusal(named, stackable=("/", "/usr"))
    world.free = False
    assert text.format("/s/store/one") in world.refusal(named)


def test_one_that_says_nothing(world: World) -> None:
    """systemd would take it for a directory that happens to be there."""
    path = f"/s/store/one: /{SYSEXT}/extension-release.a: no such file, expected what it is an "
    assert path in world.refusal({"sysext.a": ONE})
    world.says(ONE, f"{SYSEXT}/extension-release.b", "ID=debian")
    assert path in world.refusal({"sysext.a": ONE})


def test_one_of_another_release(world: World) -> None:
    world.says(ONE, f"{SYSEXT}/extension-release.a", "# for\n\nID='fedora'")
    text = f"check: /s/store/one: /{SYSEXT}/extension-release.a: ID=fedora, and the root has "
    assert text + "ID=debian, expected sysext.a of this root" in world.refusal({"sysext.a": ONE})


def test_a_file_that_is_too_large(world: World) -> None:
    world.says(ONE, f"{SYSEXT}/extension-release.a", "#" * 20000)
    assert "EFBIG" in world.refusal({"sysext.a": ONE})


def test_one_that_systemd_takes_for_a_root(world: World) -> None:
    world.says(ONE, f"{SYSEXT}/extension-release.a", "ID=_any")
    world.says(ONE, "usr/lib/os-release", "ID=debian")
    assert "/usr/lib/os-release is in it" in world.refusal({"sysext.a": ONE})


def test_where_the_root_says_what_it_is(world: World, tmp_path: Path) -> None:
    """By a link, or in /etc alone: as systemd reads it."""
    world.says(ONE, f"{SYSEXT}/extension-release.a", "ID=debian")
    place = tmp_path / "root/usr/lib/os-release"
    place.rename(place.with_name("another"))
    place.symlink_to("another")
    assert world.compose({"sysext.a": ONE})["sysext.a"][1] is not None
    place.unlink()
    assert "ID=debian, and the root has ID=None" in world.refusal({"sysext.a": ONE})
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/os-release").write_text("ID=debian\n")
    assert world.compose({"sysext.a": ONE})["sysext.a"][1] is not None


def test_a_fifo_does_not_hang_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "one" / SYSEXT).mkdir(parents=True)
    os.mkfifo(tmp_path / "one" / SYSEXT / "extension-release.a")
    assert "ID=None" in world.refusal({"sysext.a": ONE})


def test_a_value_of_nothing_is_none(world: World, tmp_path: Path) -> None:
    (tmp_path / "root/usr/lib/os-release").write_text('ID=debian\nVERSION_ID=""\n')
    world.says(ONE, f"{SYSEXT}/extension-release.a", "ID=debian\nSYSEXT_LEVEL=\nVERSION_ID=3")
    assert world.compose({"sysext.a": ONE})["sysext.a"][1] is not None


MACHINE = os.uname().machine.replace("x86_64", "x86-64").replace("aarch64", "arm64")
ROOT = {"ID": "ubuntu", "ID_LIKE": "debian other", "VERSION_ID": "24.04", "SYSEXT_LEVEL": "3"}


@pytest.mark.parametrize(
    ("says", "root", "fault"),
    [
        ({"ID": "_any"}, ROOT, ""),
        ({"ID": "_any", "VERSION_ID": "1"}, {}, ""),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, ROOT, ""),
        ({"ID": "debian", "VERSION_ID": "24.04"}, ROOT, ""),
        ({"ID": "deb", "VERSION_ID": "24.04"}, ROOT, "ID=deb, and the root has ID=ubuntu"),
        ({"VERSION_ID": "24.04"}, ROOT, "ID=None, and the root has ID=ubuntu"),
        ({"ID": "_any", "ARCHITECTURE": "_any", "SYSEXT_SCOPE": "portable system"}, {}, ""),
        ({"ID": "_any", "ARCHITECTURE": MACHINE}, ROOT, ""),
        (
            {"ID": "_any", "ARCHITECTURE": "vax"}, ROOT,
            f"ARCHITECTURE=vax, and the root has ARCHITECTURE={MACHINE}",
        ),
        (
            {"ID": "_any", "SYSEXT_SCOPE": "initrd portable"}, ROOT,
            "SYSEXT_SCOPE=initrd portable, and the root has SYSEXT_SCOPE=system",
        ),
        ({"ID": "ubuntu"}, ROOT, "VERSION_ID=None, and the root has VERSION_ID=24.04"),
        ({"ID": "ubuntu", "SYSEXT_LEVEL": "3"}, ROOT, ""),
        ({"ID": "ubuntu", "SYSEXT_LEVEL": "3", "VERSION_ID": "1"}, ROOT, ""),
        (
            {"ID": "ubuntu", "SYSEXT_LEVEL": "2", "VERSION_ID": "24.04"}, ROOT,
            "SYSEXT_LEVEL=2, and the root has SYSEXT_LEVEL=3",
        ),
        ({"ID": "ubuntu", "SYSEXT_LEVEL": "2"}, {"ID": "ubuntu"}, ""),
        ({"ID": "arch"}, {"ID": "arch"}, ""),
        ({"ID": "arch", "VERSION_ID": "1"}, {"ID": "arch"}, ""),
        ({"ID": "arch"}, {}, "ID=arch, and the root has ID=None"),
    ],
)  # fmt: skip
def test_what_is_an_extension_of_a_root(
    says: dict[str, str], root: dict[str, str], fault: str
) -> None:
    """As extension_release_validate() of systemd 257 has it."""
    assert extension.mismatch("sysext", says, root) == fault


def test_a_confext_has_a_level_of_its_own() -> None:
    says = {"ID": "ubuntu", "SYSEXT_LEVEL": "3", "VERSION_ID": "1"}
    assert "VERSION_ID=1" in extension.mismatch("confext", says, ROOT)


def test_where_they_are_mounted() -> None:
    assert extension.place_of("sysext.a.b") == "/run/extensions/a.b"
    assert extension.place_of("confext.a") == "/run/confexts/a"
