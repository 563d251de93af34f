# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who names an image for the running system. The sealed root is a directory here."""

import _cfs
import os
import posix
from pathlib import Path

import pytest

from pyinit.initrd.handover import named_images, status
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import image_list

A, B = Digest(1, b"\xa1" * 32), Digest(2, b"\xb2" * 64)
LINE_A = f"digest=fsverity-sha256-12:{A.hex}\n".encode()
LINE_B = f"digest=fsverity-sha512-12:{B.hex}\n".encode()
ONE = b"cfsimg1\n" + LINE_A


class Root:
    """A root with a directory of lists, and the list of the UKI."""

    def __init__(self, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.tree, self.apps = tmp_path / "root", tmp_path / "apps"
        self.directory = self.tree / named_images.DIRECTORY.lstrip("/")
        self.directory.mkdir(parents=True)
        self.verity: str | None = "require"
        self.cloned: list[bool] = []
        patch.setattr(status, "APPS", str(self.apps))
        patch.setattr(status, "CONFIG", str(tmp_path / "setup-root.conf"))
        patch.setattr(existing, "at", self._at)
        patch.setattr(_cfs, "mount_clone", self._clone)

    def _at(self, target: str) -> existing.Existing | None:
        assert target == "/"
        if self.verity is None:
            return None
        found = existing.Existing.__new__(existing.Existing)
        found.directory = posix.open(str(self.tree), posix.O_PATH)
        found.verity = self.verity
        return found

    def _clone(self, directory: int, recursive: bool) -> int:
        self.cloned.append(recursive)
        return posix.dup(directory)

    def lists(self, data: bytes, name: str = "x") -> None:
        (self.directory / f"{name}.conf").write_bytes(data)

    def uki(self, **apps: Digest) -> None:
        bits = {1: 256, 2: 512}
        lines = [f"{name}=fsverity-sha{bits[d.algorithm]}-12:{d.hex}" for name, d in apps.items()]
        self.apps.write_text("\n".join(["cfsapp1", *lines, ""]))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    return Root(monkeypatch, tmp_path)


def refusal(name: str = "x") -> str:
    with pytest.raises(Refused) as caught:
        named_images.find(name)
    assert caught.value.step == "source"
    return str(caught.value)


def test_by_the_uki(root: Root) -> None:
    root.uki(x=A, y=B)
    assert named_images.find("x") == (A, "/sysroot/composefs", False)
    assert named_images.find("y") == (B, "/sysroot/composefs", False)
    root.verity = None  # whatever the root is
    assert named_images.find("x") == (A, "/sysroot/composefs", False)


def test_users_may_have_what_the_sealed_root_says_alone(root: Root) -> None:
    root.uki(x=A)
    assert named_images.find("x")[2] is False
    root.lists(ONE + b"users=yes\n")
    assert named_images.find("x") == (A, "/sysroot/composefs", True)
    root.verity = "off"  # the root is not sealed: its list says nothing
    assert named_images.find("x") == (A, "/sysroot/composefs", False)


def test_by_the_sealed_root(root: Root) -> None:
    root.lists(ONE)
    assert named_images.find("x") == (A, "/sysroot/composefs", False)
    root.lists(b"cfsimg1\nstore=/srv/images\n" + LINE_B)
    assert named_images.find("x") == (B, "/srv/images", False)
    # Nothing that is mounted in the root is in what is looked at.
    assert root.cloned == [False, False]


def test_the_store_is_where_the_initrd_had_it(root: Root, tmp_path: Path) -> None:
    root.uki(x=A)
    (tmp_path / "setup-root.conf").write_text("cfsconf1\nstore=/elsewhere\n")
    assert named_images.find("x") == (A, "/sysroot/elsewhere", False)


def test_both_have_to_agree(root: Root) -> None:
    root.uki(x=A)
    root.lists(b"cfsimg1\nstore=/srv\n" + LINE_A)
    assert named_images.find("x") == (A, "/srv", False)
    root.lists(b"cfsimg1\n" + LINE_B)
    assert f"x.conf: {B}, expected {A}, as the UKI has it" in refusal()


def test_nobody_names_it(root: Root) -> None:
    root.uki(y=A)
    root.lists(ONE, "z")
    said = refusal()
    assert f"source: x: neither in {root.apps} nor /usr/lib/cfs/images.d/x.conf in the" in said
    (root.directory / "z.conf").unlink()
    root.directory.rmdir()
    assert "neither in" in refusal()


@pytest.mark.parametrize("verity", [None, "off"])
def test_a_root_that_is_not_sealed_names_nothing(root: Root, verity: str | None) -> None:
    root.lists(ONE)
    root.verity = verity
    assert f"not in {root.apps}, and / is no sealed root, which could have" in refusal()
    assert root.cloned == []


def test_no_link_is_followed(root: Root) -> None:
    (root.directory / "real").write_bytes(ONE)
    (root.directory / "x.conf").symlink_to("real")
    assert "x.conf: Too many levels of symbolic links (ELOOP), expected a regular" in refusal()
    os.rename(root.directory, root.directory.parent / "elsewhere")
    root.directory.symlink_to("elsewhere")
    (root.directory.parent / "elsewhere/x.conf").unlink()
    os.rename(root.directory / "real", root.directory.parent / "elsewhere/x.conf")
    assert "x.conf: Not a directory (ENOTDIR), expected a regular" in refusal()


def test_what_is_no_file_is_refused_and_hangs_nobody(root: Root) -> None:
    os.mkfifo(root.directory / "x.conf")
    assert "no regular file" in refusal()
    (root.directory / "x.conf").unlink()
    (root.directory / "x.conf").mkdir()
    assert "no regular file" in refusal()
    root.lists(ONE.ljust(image_list.MAX + 1, b"x"), "y")
    assert "More than 4096 bytes (EFBIG)" in refusal("y")


def test_a_broken_file_is_refused_also_where_the_uki_names_it(root: Root) -> None:
    root.uki(x=A)
    root.lists(ONE + b"verity=off\n")
    assert "x.conf: unknown key 'verity'" in refusal()


LINE = b"%s=fsverity-sha256-12:" + b"ab" * 32 + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"cfsapp2\n", b"cfsapp1\nx=1\n", b"cfsapp1\nx\n",
        b"cfsapp1\n" + LINE % b"x" * 2, b"cfsapp1\n" + LINE % b"y" + LINE % b"x",
        b"cfsapp1\n" + LINE % b"X",
    ],
)  # fmt: skip
def test_a_broken_list_of_the_uki_is_refused(root: Root, data: bytes) -> None:
    root.lists(ONE)
    root.apps.write_bytes(data)
    assert str(root.apps) in refusal()
