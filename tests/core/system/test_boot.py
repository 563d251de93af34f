# SPDX-License-Identifier: Apache-2.0 OR MIT
"""boot.c: what would be deleted. Nothing is: account.c answers in the kernel's place."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.core import Core

TMPFS = 0x01021994
EXT4 = 0xEF53


@pytest.fixture
def tree(core: Core, tmp_path: Path) -> Iterator[int]:
    """A tree that is told to lie on a tmpfs; `elsewhere` is on another file system."""
    for name in ("init", "usr/bin/program", "elsewhere/kept", "elsewhere/below/kept"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "link").symlink_to("elsewhere")
    core.lib.fault_file_system = TMPFS
    core.lib.account_elsewhere = (tmp_path / "elsewhere").stat().st_ino
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    core.lib.fault_file_system = 0
    core.lib.account_elsewhere = 0


def test_what_a_terminal_has_not_sent(core: Core) -> None:
    ours, theirs = os.openpty()
    assert core.lib.cfs_terminal_pending(theirs) == 0
    os.write(theirs, b"line")
    assert core.lib.cfs_terminal_pending(theirs) in range(5)  # a pseudo-terminal may have sent it
    file = os.open("/dev/null", os.O_WRONLY)
    assert core.lib.cfs_terminal_pending(file) == -errno.ENOTTY
    for fd in (ours, theirs, file):
        os.close(fd)


def test_as_much_as_the_kernel_says_is_pending(core: Core) -> None:
    """Of a pseudo-terminal it says 0; a serial line is slow."""

    @core.ffi.callback("int(int, unsigned long, void *)")  # type: ignore[untyped-decorator]
    def pending(_fd: int, _request: int, out: object) -> int:
        core.ffi.cast("int *", out)[0] = 7
        return 0

    core.lib.fault_sys_ioctl = pending
    try:
        assert core.lib.cfs_terminal_pending(0) == 7
    finally:
        core.lib.fault_sys_ioctl = core.ffi.NULL


def test_an_initramfs_is_emptied_and_no_other_file_system(core: Core, tree: int) -> None:
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == 0
    opened = [line for line in said if line.startswith("open ")]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    names = (".", "bin", "elsewhere", "usr")
    assert sorted(opened) == [f"open {name} {flags:#x}" for name in names]
    said = [line for line in said if line not in opened]
    assert sorted(said) == [
        "rmdir bin", "rmdir usr", "unlink init", "unlink link", "unlink program",
    ]  # fmt: skip
    assert said.index("unlink program") < said.index("rmdir bin") < said.index("rmdir usr")


def test_a_tree_on_a_disk_is_never_emptied(core: Core, tree: int) -> None:
    core.lib.fault_file_system = EXT4
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == -errno.EPERM
    assert said == []


def test_an_initramfs_that_cannot_be_looked_at(core: Core, tree: int) -> None:
    with core.account(1, errno.EDOM) as said:
        assert core.lib.cfs_initramfs_empty(tree) == -errno.EDOM
    assert len(said) == 1
    core.lib.fault_file_system = (1 << 64) - 1
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == -errno.EDOM
        assert core.lib.cfs_root_is_initramfs() == -errno.EDOM
    assert len(said) == 1
    core.lib.fault_file_system = TMPFS
    for what in ("account_no_stat", "account_no_stream"):
        with core.account(0, errno.EDOM) as said:
            setattr(core.lib, what, 1)
            assert core.lib.cfs_initramfs_empty(tree) == -errno.EDOM
        assert len(said) == 1


def test_a_tree_deeper_than_is_walked_stays(core: Core, tree: int, tmp_path: Path) -> None:
    (tmp_path / "/".join(["d"] * 70)).mkdir(parents=True)
    with core.account() as said:
        assert core.lib.cfs_initramfs_empty(tree) == 0
    assert said.count("rmdir d") == 63  # and the root itself


@pytest.mark.parametrize(
    ("kind", "is_one"), [(TMPFS, 1), (0x858458F6, 1), (EXT4, 0)], ids=["tmpfs", "ramfs", "ext4"]
)
def test_what_an_initramfs_lies_on(core: Core, kind: int, is_one: int) -> None:
    core.lib.fault_file_system = kind
    try:
        said = core.each_call_fails(core.lib.cfs_root_is_initramfs)
        assert core.lib.cfs_root_is_initramfs() == is_one
    finally:
        core.lib.fault_file_system = 0
    assert said == [f"open / {os.O_PATH | os.O_DIRECTORY:#x}"]


def test_the_steps_of_switching_root_end_where_one_fails(core: Core) -> None:
    assert core.each_call_fails(lambda: core.lib.cfs_switch_root(b"/new", False)) == [
        "chdir /new", "move . to /", "chroot .", "chdir /",
    ]  # fmt: skip


def test_the_steps_of_leaving_a_mount(core: Core) -> None:
    """The old root lies over the new one then, and is what "." names."""
    assert core.each_call_fails(lambda: core.lib.cfs_switch_root(b"/new", True)) == [
        "chdir /new", "pivot_root . .", "umount 0x2", "chdir /",
    ]  # fmt: skip


def test_outliving_the_initrd(core: Core) -> None:
    assert core.each_call_fails(core.lib.cfs_outlive_initrd) == [
        "setsid",
        "sigaction 15 0x80000000",
    ]


def test_modules(core: Core) -> None:
    lib = core.lib
    assert core.each_call_fails(lambda: lib.cfs_module_load(9, b"", False)) == ["finit_module 0 "]
    assert core.each_call_fails(lambda: lib.cfs_module_load(9, b"a=b c", True)) == [
        "finit_module 0x4 a=b c"
    ]
