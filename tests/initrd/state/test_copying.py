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
    files(tmp_path / "gone" / "wide", 20_000)
    for number in range(500):
        (tmp_path / "gone" / "many" / str(number) / "below").mkdir(parents=True)
    tracemalloc.start()
    try:
        copying.remove(str(tmp_path / "gone"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000  # a list of the names alone is over a million
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
