# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is taken for a composed root, and for the upper layer of one; mountinfo is made up here."""

import _cfs
import os
import posix
import stat
from pathlib import Path

import pytest

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.kernel.mounting import NODEV, NOEXEC, NOSUID
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import existing

HEX = "ab" * 32
SEALED = f"overlay composefs:{HEX} ro,metacopy=on,verity=require"


class Table:
    """mountinfo, in a file. The directory `point` is the root of mount 77."""

    def __init__(self, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.path = tmp_path / "mountinfo"
        self.point = tmp_path / "point"
        self.point.mkdir()
        number = self.point.stat().st_ino
        patch.setattr(mountinfo, "PATH", str(self.path))
        patch.setattr(mountinfo, "mount_id", lambda fd: 77 if os.fstat(fd).st_ino == number else 1)

    def shows(self, right: str, options: str = "ro,relatime", root: str = "/") -> None:
        self.path.write_text(f"77 1 0:40 {root} {self.point} {options} - {right}\n")

    def at(self) -> existing.Existing | None:
        return existing.at(str(self.point))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    return Table(monkeypatch, tmp_path)


def test_a_root(table: Table) -> None:
    table.shows(SEALED, "ro,nosuid,relatime")
    found = table.at()
    assert found is not None
    assert (found.digest.hex, found.verity, found.upper) == (HEX, "require", None)
    assert found.options == ["ro", "nosuid", "relatime"]
    table.shows(SEALED.replace("composefs:", "transient:composefs="))
    found = table.at()
    assert found is not None
    assert found.digest.hex == HEX
    table.shows(SEALED.replace("require", "on") + ",upperdir=/proc/self/fd/9/u,workdir=/a/w")
    found = table.at()
    assert found is not None
    assert (found.verity, found.upper) == ("off", "u")


@pytest.mark.parametrize(
    "right",
    [
        SEALED.replace("overlay", "tmpfs"),
        SEALED.replace("composefs:", "root:"),
        SEALED.replace("composefs:", "transient:"),
        SEALED.replace("composefs:", ""),
        SEALED.replace(HEX, HEX[1:]),
    ],
)
def test_what_is_none(table: Table, right: str) -> None:
    table.shows(right)
    assert table.at() is None


def test_a_bind_of_a_directory_of_a_root_is_none(table: Table) -> None:
    """`mount --bind /srv/app/etc /srv/other` has the source and the options of all of /srv/app."""
    table.shows(SEALED, root="/etc")
    assert table.at() is None


def test_what_is_found_is_what_was_opened(table: Table, tmp_path: Path) -> None:
    """Who owns a part of the path may put a link there, before the mount is changed."""
    table.shows(SEALED)
    found = table.at()
    table.point.rename(tmp_path / "moved")
    table.point.symlink_to(tmp_path)
    assert found is not None
    assert os.readlink(f"/proc/self/fd/{found.directory}") == str(tmp_path / "moved")


def test_a_directory_inside_a_root_is_none(table: Table, tmp_path: Path) -> None:
    table.shows(SEALED)
    assert existing.at(str(tmp_path)) is None
    table.path.write_text("")
    assert table.at() is None  # gone meanwhile, or of another namespace


def test_a_directory_of_the_same_mount_is_none(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line in mountinfo is that of the root. To look at it takes no right to read."""
    table.shows(SEALED)
    flags: list[int] = []
    opened = posix.open

    def note(path: str, how: int, **rest: int) -> int:
        flags.append(how)
        return opened(path, how, **rest)

    monkeypatch.setattr(posix, "open", note)
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: 77)
    (table.point / "usr").mkdir()
    assert existing.at(str(table.point / "usr")) is None
    assert all(how & os.O_PATH for how in flags)


@pytest.mark.parametrize(("target", "found"), [("/", True), ("/inside", False), (None, False)])
def test_the_root_of_all_is_a_mount_where_mountinfo_shows_it(
    table: Table, monkeypatch: pytest.MonkeyPatch, target: str | None, found: bool
) -> None:
    """Nothing lies above it. In a chroot it may be a directory inside of a mount."""
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: 77)
    table.path.write_text("" if target is None else f"77 1 0:40 / {target} ro - {SEALED}\n")
    there = existing.at("/")
    assert (there is not None) == found
    if there is not None:
        assert os.path.samestat(os.fstat(there.directory), os.stat("/"))


def test_a_directory_has_one_name_whatever_its_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to("a")
    names = []
    for path in ("a", "a/../a", "link", "b"):
        directory = os.open(tmp_path / path, os.O_PATH)
        names.append(existing.name(directory))
        os.close(directory)
    assert names[0] == names[1] == names[2] != names[3]
    status = (tmp_path / "a").stat()
    assert names[0] == f"cfs-{status.st_dev:x}-{status.st_ino}"


def test_a_layer_is_given_by_a_link_with_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a file system that nobody else sees: the kernel shows its path, which means nothing."""
    made: list[object] = []
    links = tmp_path / "links"
    directories = [tmp_path / name for name in ("upper", "work")]
    for path in (links, *directories):
        path.mkdir()
    place = os.open(links, os.O_PATH)

    def mount(*arguments: object) -> int:
        made.extend(arguments)
        return place

    monkeypatch.setattr(_cfs, "fs_mount", mount)
    upper, work = (os.open(path, os.O_PATH) for path in directories)
    paths = existing.paths((upper, work))
    assert made[0] == "tmpfs"
    assert ("mode", "0700") in made[1]  # type: ignore[operator]
    assert made[2] == NOSUID | NODEV | NOEXEC
    for shown, directory, fd in zip(paths, directories, (upper, work), strict=True):
        assert shown == f"/proc/self/fd/{place}/{existing.name(fd)}"
        assert os.path.samefile(shown, directory)
        assert stat.S_ISLNK(os.lstat(shown).st_mode)
    for fd in (place, upper, work):
        os.close(fd)


@pytest.mark.parametrize("key", ["upperdir", "workdir"])
def test_no_directory_is_in_two_mounts(table: Table, tmp_path: Path, key: str) -> None:
    """overlayfs takes it twice, and what is written then is undefined."""
    directory = os.open(tmp_path, os.O_PATH)
    wanted = {"/u": directory}
    called = existing.name(directory)
    table.shows(SEALED)
    existing.check_unused(wanted)
    table.shows(f"{SEALED},lowerdir=/{called},{key}=/x/{called}0")
    existing.check_unused(wanted)
    table.shows(f"{SEALED},{key}=/proc/self/fd/4/{called}")
    with pytest.raises(
        Refused, match=f"overlay: /u: in use as {key} of the mount on {table.point}"
    ):
        existing.check_unused(wanted)
    os.close(directory)
