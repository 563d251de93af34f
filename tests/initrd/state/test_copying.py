# SPDX-License-Identifier: Apache-2.0 OR MIT
import _cfs
import errno
import os
import posix
import resource
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from pyinit.initrd.state import copying
from tests.initrd.harness import opens
from tests.vm.listing import listing


def fill(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_bytes(bytes(3 << 20))
    (root / "a" / "file").chmod(0o640)
    (root / "link").symlink_to("/nowhere")
    os.mkfifo(root / "fifo", 0o600)
    (root / "a").chmod(0o2750)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1, 1_000_000_000), follow_symlinks=False)


def test_a_copy_shows_the_same(tmp_path: Path) -> None:
    fill(tmp_path / "from")
    (tmp_path / "to").mkdir(mode=0o700)
    copying.tree(str(tmp_path / "from"), str(tmp_path / "to"))
    assert listing(tmp_path / "to") == listing(tmp_path / "from")


def test_remove_takes_all_and_follows_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "kept")
    before = listing(tmp_path / "kept")
    fill(tmp_path / "gone")
    (tmp_path / "gone" / "a" / "out").symlink_to(tmp_path / "kept")
    copying.remove(str(tmp_path / "gone"))
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    copying.remove(str(tmp_path / "link"))
    copying.remove(str(tmp_path / "none"))
    assert os.listdir(tmp_path) == ["kept"]
    assert listing(tmp_path / "kept") == before


def test_a_deep_tree_is_removed_without_recursion(tmp_path: Path) -> None:
    path = str(tmp_path / "deep")
    for _ in range(1200):
        os.mkdir(path)
        path += "/d"
    try:
        copying.remove(str(tmp_path / "deep"))
        assert not (tmp_path / "deep").exists()
    finally:  # pytest's own removal is recursive
        subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


def files(directory: Path, count: int) -> None:
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / str(number)).touch()


def test_memory_does_not_grow_with_the_names(tmp_path: Path) -> None:
    """It was 124 MiB for 200,000 of them: a user of an earlier boot could stop the next."""
    files(tmp_path / "gone" / "wide", 2_000)
    for number in range(200):
        (tmp_path / "gone" / "many" / str(number) / "below").mkdir(parents=True)
    tracemalloc.start()
    try:
        copying.remove(str(tmp_path / "gone"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000  # 2,000 as it is; a list of the names alone is over 100,000
    assert os.listdir(tmp_path) == []


def test_descriptors_do_not_grow_with_the_depth(tmp_path: Path) -> None:
    """The tree's own names do not stop what is moved up in it."""
    top = tmp_path / "deep"
    files(top / ".moved-1", 1)
    (top / ".moved-2").touch()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = 80 + max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    try:
        copying.remove(str(top))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not top.exists()


def test_what_does_not_go_is_told_when_all_else_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path / "top" / "a" / "b", 3)
    files(tmp_path / "top" / "c", 3)
    (tmp_path / "top" / "a" / "b" / "stuck").touch()
    unlink = posix.unlink

    def immutable(path: str, *, dir_fd: int | None = None) -> None:
        if path == "stuck":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(posix, "unlink", immutable)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError):
        copying.remove(str(tmp_path / "top"))
    assert os.listdir("/proc/self/fd") == before
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert sorted(left) == ["top", "top/a", "top/a/b", "top/a/b/stuck"]


def test_no_other_mount_is_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What open_beneath answers where there is one."""
    files(tmp_path / "top" / "mount", 2)
    files(tmp_path / "top" / "gone", 2)
    beneath = _cfs.open_beneath

    def open_beneath(fd: int, name: str, flags: int) -> int:
        if name == "mount":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return beneath(fd, name, flags)

    monkeypatch.setattr(_cfs, "open_beneath", open_beneath)
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        copying.remove(str(tmp_path / "top"))
    assert sorted(os.listdir(tmp_path / "top" / "mount")) == ["0", "1"]
    assert os.listdir(tmp_path / "top") == ["mount"]


def test_a_new_directory_has_nothing_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xattrs in words only: a default ACL needs a file system that has them."""
    names = ["system.posix_acl_default", "system.posix_acl_access", "security.selinux", "user.x"]
    done: list[object] = []
    monkeypatch.setattr(posix, "listxattr", lambda _: names)
    monkeypatch.setattr(posix, "removexattr", lambda _, name: done.append(name))
    monkeypatch.setattr(_cfs, "inherited_clear", lambda _: done.append("flags"))
    monkeypatch.setattr(posix, "fchown", lambda _, *owner: done.append(owner))
    (tmp_path / "parent").mkdir(mode=0o2777)
    (tmp_path / "parent").chmod(0o2777)
    copying.make_directory(str(tmp_path / "parent" / "new"))
    assert done == ["flags", names[0], names[1], names[3], (0, 0)]
    assert (tmp_path / "parent" / "new").stat().st_mode == 0o40700


DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def test_no_link_is_followed_that_appears_meanwhile(tmp_path: Path) -> None:
    fill(tmp_path / "from")
    (tmp_path / "to").mkdir()
    with opens() as seen:
        copying.tree(str(tmp_path / "from"), str(tmp_path / "to"))
        copying.make_directory(str(tmp_path / "new"))
        copying.remove(str(tmp_path / "to"))
    made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    assert seen == {
        str(tmp_path / "from" / "a" / "file"): os.O_NOFOLLOW | os.O_CLOEXEC,
        str(tmp_path / "to" / "a" / "file"): made,
        str(tmp_path / "new"): DIRECTORY,
        str(tmp_path / "to"): DIRECTORY,
    }


class Xattrs:
    """Of each path, as (path, follow_symlinks, name)."""

    def __init__(self, patch: pytest.MonkeyPatch, names: list[str]) -> None:
        self.got: list[tuple[str, bool, str]] = []
        self.set: list[tuple[str, bool, str]] = []
        self.error = 0
        patch.setattr(posix, "listxattr", lambda _, *, follow_symlinks: names)
        patch.setattr(posix, "getxattr", self._get)
        patch.setattr(posix, "setxattr", self._set)

    def _get(self, path: str, name: str, *, follow_symlinks: bool) -> bytes:
        self.got.append((path, follow_symlinks, name))
        return b"value"

    def _set(self, path: str, name: str, value: bytes, *, follow_symlinks: bool) -> None:
        assert value == b"value"
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.set.append((path, follow_symlinks, name))


def test_attributes_of_the_thing_itself_but_those_of_overlayfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    for path in (source, target):
        os.symlink("/nowhere", path)
    xattrs = Xattrs(monkeypatch, ["trusted.overlay.metacopy", "trusted.x", "security.selinux"])
    copying.attributes(source, target)
    assert xattrs.got == [(source, False, "trusted.x"), (source, False, "security.selinux")]
    assert xattrs.set == [(target, False, "trusted.x"), (target, False, "security.selinux")]
    xattrs.error = errno.EOPNOTSUPP
    copying.attributes(source, target)
    xattrs.error = errno.ENOSPC
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        copying.attributes(source, target)


def test_a_directory_that_cannot_be_removed_at_all_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path / "top" / "busy", 1)

    def rmdir(path: str, *, dir_fd: int | None = None) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(posix, "rmdir", rmdir)
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        copying.remove(str(tmp_path / "top"))
    assert os.listdir(tmp_path / "top" / "busy") == ["0"]


def test_no_descriptor_is_left_where_a_directory_cannot_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path / "top" / "a", 1)
    real, calls = posix.scandir, []

    def scandir(path: int) -> object:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(posix, "scandir", scandir)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        copying.remove(str(tmp_path / "top"))
    assert os.listdir("/proc/self/fd") == before


def test_moving_up_takes_the_next_number_where_a_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "top" / "/".join(["d"] * 40)
    deep.mkdir(parents=True)
    answers = [errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, 0, errno.EIO]
    asked: list[str] = []
    real = posix.rename

    def rename(name: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        asked.append(target)
        number = answers.pop(0) if answers else 0
        if number:
            raise OSError(number, os.strerror(number))
        real(name, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(posix, "rename", rename)
    copying.remove(str(tmp_path / "top"))
    assert asked == [".moved-1", ".moved-2", ".moved-3", ".moved-4"]
    deep.mkdir(parents=True)
    answers[:] = [errno.EIO]
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        copying.remove(str(tmp_path / "top"))
    assert len(asked) == 5
