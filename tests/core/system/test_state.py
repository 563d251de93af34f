# SPDX-License-Identifier: Apache-2.0 OR MIT
"""state.c: nothing beside the directory given is reached, by whatever link."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.core.core import Core

FLAGS = os.O_PATH


@pytest.fixture(params=["entry", "parent", "absolute", "up", "dangling", "magic"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = tmp_path / "root"
    (root / "there" / "below").mkdir(parents=True)
    name = str(request.param)
    target = {
        "entry": "there", "parent": "there", "absolute": str(root / "there"), "up": "../root/there",
        "dangling": "none", "magic": "/proc/self/cwd",
    }[name]  # fmt: skip
    (root / "link").symlink_to(target)
    return "link/below" if name == "parent" else "link"


def test_no_link_is_followed(core: Core, tmp_path: Path, link: str) -> None:
    root = os.open(tmp_path / "root", os.O_PATH)
    for flags in (FLAGS, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY):
        assert core.lib.cfs_open_beneath(root, link.encode(), flags) == -errno.ELOOP
    os.close(root)


@pytest.mark.parametrize(
    ("path", "error"),
    [("..", errno.EXDEV), ("/", errno.EXDEV), ("a/../..", errno.EXDEV), ("b", errno.ENOENT)],
)
def test_nothing_outside(core: Core, tmp_path: Path, path: str, error: int) -> None:
    (tmp_path / "a").mkdir()
    root = os.open(tmp_path, os.O_PATH)
    assert core.lib.cfs_open_beneath(root, path.encode(), FLAGS) == -error
    os.close(root)


def test_no_other_mount(core: Core) -> None:
    root = os.open("/", os.O_PATH)
    assert core.lib.cfs_open_beneath(root, b"proc", FLAGS) == -errno.EXDEV
    os.close(root)


class Inode:
    """Answers to the requests of <linux/fs.h> for one that has these flags and this project."""

    def __init__(self, flags: int, project: int, errors: dict[int, int]) -> None:
        self.flags, self.project, self.errors = flags, project, errors
        self.stays = 0

    def answer(self, core: Core, request: int, argument: Any) -> int:
        if request in self.errors:
            return -self.errors[request]
        if request in (GETFLAGS, SETFLAGS):
            value = core.ffi.cast("int *", argument)
            if request == GETFLAGS:
                value[0] = self.flags
            else:
                self.flags = value[0] | self.stays
            return 0
        assert request in (FSGETXATTR, FSSETXATTR)
        fields = core.ffi.cast("uint32_t *", argument)
        if request == FSGETXATTR:
            fields[3] = self.project
        else:
            self.project = fields[3]
        return 0


GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
EXTENTS, INDEX, INLINE, CASEFOLD, ENCRYPT = 0x80000, 0x1000, 0x10000000, 0x40000000, 0x800
# what a directory of ext4, btrfs or f2fs hands on to what is made in it
HANDED_ON = {
    "sync": 0x8, "append": 0x20, "nodump": 0x40, "noatime": 0x80, "nocompress": 0x400,
    "journal": 0x4000, "notail": 0x8000, "dirsync": 0x10000, "topdir": 0x20000, "nocow": 0x800000,
    "dax": 0x2000000, "project": 0x20000000, "casefold": CASEFOLD, "compress": 0x4,
    "secure removal": 0x1, "undeletable": 0x2, "immutable": 0x10,
}  # fmt: skip


def clear(core: Core, inode: Inode) -> int:
    callback = core.ffi.callback(
        "int(int, unsigned long, void *)",
        lambda _fd, request, argument: inode.answer(core, request, argument),
    )
    core.lib.fault_sys_ioctl = callback
    try:
        return int(core.lib.cfs_inherited_clear(7))
    finally:
        core.lib.fault_sys_ioctl = core.ffi.NULL


@pytest.mark.parametrize("name", HANDED_ON)
def test_what_the_parent_gave_is_taken_away(core: Core, name: str) -> None:
    """And nothing else: without the flag that says how it is stored, ext4 stores it anew."""
    stored = EXTENTS | INDEX | INLINE
    inode = Inode(stored | HANDED_ON[name], 4242, {})
    assert clear(core, inode) == 0
    assert (inode.flags, inode.project) == (stored, 0)


def test_what_cannot_be_taken_away_is_an_error(core: Core) -> None:
    inode = Inode(EXTENTS | CASEFOLD, 0, {SETFLAGS: errno.ENOTEMPTY})
    assert clear(core, inode) == -errno.ENOTEMPTY
    inode = Inode(EXTENTS | CASEFOLD, 0, {})
    inode.stays = CASEFOLD
    assert clear(core, inode) == -errno.EPERM
    assert clear(core, Inode(EXTENTS, 1, {FSSETXATTR: errno.EINVAL})) == -errno.EINVAL
    assert clear(core, Inode(ENCRYPT, 0, {})) == -errno.EKEYREJECTED


def test_a_file_system_without_any(core: Core) -> None:
    for number in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        assert clear(core, Inode(0, 0, {GETFLAGS: number, FSGETXATTR: number})) == 0
    assert clear(core, Inode(EXTENTS, 0, {SETFLAGS: errno.EIO, FSSETXATTR: errno.EIO})) == 0
    assert clear(core, Inode(0, 0, {GETFLAGS: errno.EIO})) == -errno.EIO
    assert clear(core, Inode(0, 0, {FSGETXATTR: errno.EIO})) == -errno.EIO
    assert clear(core, Inode(0, 5, {FSGETXATTR: errno.ENOTTY, FSSETXATTR: errno.EIO})) == 0


def test_what_is_there_is_opened(core: Core, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    root = os.open(tmp_path, os.O_PATH)
    fd = core.lib.cfs_open_beneath(root, b"a/b", FLAGS)
    assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / "a" / "b"))
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(root)


@pytest.mark.parametrize(
    ("kind", "request_number"), [(0xEF53, 0x40086610), (0x9123683E, 0x50009403)]
)
def test_how_each_is_grown(core: Core, kind: int, request_number: int) -> None:
    asked: list[int] = []

    def answer(_fd: int, request: int, _argument: object) -> int:
        asked.append(request)
        return -errno.EDOM

    callback = core.ffi.callback("int(int, unsigned long, void *)", answer)
    core.lib.fault_sys_ioctl, core.lib.fault_file_system = callback, kind
    try:
        result = core.lib.cfs_filesystem_grow(7, 1 << 30)
    finally:
        core.lib.fault_sys_ioctl, core.lib.fault_file_system = core.ffi.NULL, 0
    assert (result, asked) == (-errno.EDOM, [request_number])


SCAN_DEV = 0x50009404


def test_a_device_of_a_btrfs_is_told_the_kernel(core: Core, tmp_path: Path) -> None:
    asked: list[tuple[int, bytes]] = []

    def answer(_fd: int, request: int, argument: Any) -> int:
        asked.append((request, bytes(core.ffi.buffer(argument, 4096))))
        return -errno.EDOM

    callback = core.ffi.callback("int(int, unsigned long, void *)", answer)
    core.lib.fault_sys_ioctl = callback
    try:
        with core.account() as said:
            longest = b"/dev/" + b"x" * 4082
            for name in (b"/dev/vda", longest):
                assert core.lib.cfs_btrfs_scan(core.ffi.new("char[]", name)) == -errno.EDOM
            too_long = core.ffi.new("char[]", longest + b"x")
            assert core.lib.cfs_btrfs_scan(too_long) == -errno.ENAMETOOLONG
    finally:
        core.lib.fault_sys_ioctl = core.ffi.NULL
    assert said == ["open /dev/btrfs-control 0"] * 2
    assert [request for request, _ in asked] == [SCAN_DEV, SCAN_DEV]
    # struct btrfs_ioctl_vol_args: a descriptor that nobody looks at, and the name with its NUL
    assert [argument for _, argument in asked] == [
        bytes(8) + name + bytes(4088 - len(name)) for name in (b"/dev/vda", longest)
    ]


def test_a_kernel_without_btrfs(core: Core) -> None:
    with core.account(1, errno.ENOENT):
        assert core.lib.cfs_btrfs_scan(core.ffi.new("char[]", b"/dev/vda")) == -errno.ENOENT


def test_only_ext4_and_btrfs_are_grown(core: Core) -> None:
    fd = os.open("/proc", os.O_RDONLY)
    assert core.lib.cfs_filesystem_grow(fd, 1 << 30) == -errno.EOPNOTSUPP
    os.close(fd)
    assert core.lib.cfs_filesystem_grow(-1, 1 << 30) == -errno.EBADF
    assert core.lib.cfs_filesystem_sync(-1) == -errno.EBADF


def test_a_lock_is_exclusive_and_not_waited_for(core: Core, tmp_path: Path) -> None:
    fds = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    try:
        assert core.lib.cfs_file_lock(fds[0]) == 0
        assert core.lib.cfs_file_lock(fds[1]) == -errno.EAGAIN
    finally:
        for fd in fds:
            os.close(fd)
    assert core.lib.cfs_file_lock(-1) == -errno.EBADF
