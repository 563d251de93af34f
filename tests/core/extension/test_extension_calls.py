# SPDX-License-Identifier: Apache-2.0 OR MIT
"""extension/: what becomes of the core's answer, to calls that account.c only writes down.

No argument here would do harm if it came to the kernel.
"""

import errno
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.core.core import Core

EXT4 = 0xEF53
MEASURE_VERITY = 0xC0046686
HEX = bytes(range(32)).hex()

# The call, its name in the account, and the filename of its error.
DONE: list[tuple[Callable[[Any], object], str, str | None]] = [
    (lambda cfs: cfs.mount_attach(-1, -1), "move_mount 0x44", None),
    (lambda cfs: cfs.mount_set(-1, 2, 1, False), "setattr 0x1000 +0x2 -0x1", None),
    (lambda cfs: cfs.mount_set(-1, 2, 1, True), "setattr 0x9000 +0x2 -0x1", None),
    (lambda cfs: cfs.mount_remount(-1, True), "fspick 0xd", None),
    (lambda cfs: cfs.mount_detach(-1), "umount 0x2", None),
    (lambda cfs: cfs.mount_move("/no/a", "/no/b"), "move /no/a to /no/b", "/no/b"),
    (lambda cfs: cfs.module_load(-1, b"", False), "finit_module 0 ", None),
    (lambda cfs: cfs.module_load(-1, b'a="b c"', True), 'finit_module 0x4 a="b c"', None),
    (lambda cfs: cfs.switch_root("/no/root", False), "chdir /no/root", "/no/root"),
    (lambda cfs: cfs.outlive_initrd(), "setsid", None),
    (lambda cfs: cfs.close_from(4), "close_range 0x4 0xffffffff", None),
    (lambda cfs: cfs.reboot(7), "reboot 0x7", None),
    (lambda cfs: cfs.reboot((1 << 32) - 1), "reboot 0xffffffff", None),
]
OPTIONS = [("a", "b"), ("c", None)]
SEALED = ["fsopen overlay", "source=s", "metacopy=on", "redirect_dir=on", "verity=require"]
MADE: list[tuple[Callable[[Any], Any], list[str]]] = [
    (
        lambda cfs: cfs.fs_mount("x", OPTIONS, 5),
        ["fsopen x", "a=b", "c", "create", "fsmount 0x5"],
    ),
    (lambda cfs: cfs.mount_clone(-1, True), ["open_tree 0x89001"]),
    (
        lambda cfs: cfs.overlay_mount("s", 40, -1, 42, 43, False, 5),
        [
            "fsopen overlay", "source=s", "metacopy=off", "redirect_dir=nofollow",
            "upperdir=/proc/self/fd/42", "workdir=/proc/self/fd/43", "index=on",
            "lowerdir=/proc/self/fd/40", "create", "fsmount 0x5",
        ],
    ),
    (
        lambda cfs: cfs.overlay_mount("s", 40, 41, 42, 43, True, 5, "/u", "/w"),
        [
            *SEALED, "upperdir=/u", "workdir=/w", "lowerdir+=/proc/self/fd/40",
            "datadir+=/proc/self/fd/41", "create", "fsmount 0x5",
        ],
    ),
    (
        lambda cfs: cfs.overlay_mount("s", 40, 41, -1, -1, False, 5, None, None, True),
        [
            "fsopen overlay", "source=s", "metacopy=off", "redirect_dir=nofollow", "index=off",
            "lowerdir+=/proc/self/fd/40", "datadir+=/proc/self/fd/41", "create", "fsmount 0x5",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said_of_it", "filename"), DONE)
def test_what_only_is_done(
    cfs: ModuleType,
    cfs_core: Core,
    call: Callable[[Any], object],
    said_of_it: str,
    filename: str | None,
) -> None:
    with cfs_core.account() as said:
        assert call(cfs) is None
    assert said[0] == said_of_it
    with cfs_core.account(1, errno.EDOM), pytest.raises(OSError) as caught:  # noqa: PT011
        call(cfs)
    assert caught.value.args == (errno.EDOM, os.strerror(errno.EDOM))
    assert caught.value.filename == filename


@pytest.mark.parametrize(("call", "said_of_it"), MADE)
def test_what_makes_a_mount(
    cfs: ModuleType, cfs_core: Core, call: Callable[[Any], int], said_of_it: list[str]
) -> None:
    with cfs_core.account() as said:
        os.close(call(cfs))
    assert said == said_of_it
    with cfs_core.account(1, errno.EDOM), pytest.raises(OSError) as caught:  # noqa: PT011
        call(cfs)
    assert caught.value.args == (errno.EDOM, os.strerror(errno.EDOM))


def test_an_image(cfs: ModuleType, cfs_core: Core) -> None:
    for prefers_loop in (False, True):
        with cfs_core.account():
            fd, over_loop = cfs.erofs_mount(-1, False, prefers_loop)
        os.close(fd)
        assert over_loop is prefers_loop


def test_the_kernels_words_are_the_message(cfs: ModuleType, cfs_core: Core) -> None:
    """They hold names from disks."""
    words = b"e no file of name \xff\n\1\0"
    with cfs_core.account(2, errno.EINVAL):
        cfs_core.ffi.memmove(cfs_core.lib.account_messages, words, len(words))
        with pytest.raises(OSError, match="no file of name \udcff"):
            cfs.fs_mount("x", [], 0)


def test_into_a_namespace_and_back(cfs: ModuleType, cfs_core: Core) -> None:
    with cfs_core.account() as said:
        saved = cfs.namespace_enter()
        assert os.path.samestat(os.fstat(saved[1]), os.stat("/"))
        assert cfs.namespace_leave(saved) is None
    assert said[3:] == [
        "unshare 0x20000", "propagation / 0x44000", "setns 0x20000", "fchdir", "chroot .", "fchdir",
    ]  # fmt: skip
    with cfs_core.account(4, errno.EDOM), pytest.raises(OSError) as caught:  # noqa: PT011
        cfs.namespace_enter()
    assert caught.value.errno == errno.EDOM


def test_an_initramfs_that_cannot_be_looked_at(cfs: ModuleType, cfs_core: Core) -> None:
    """That is no answer, and not yes."""
    with cfs_core.account(1, errno.EDOM), pytest.raises(OSError) as caught:  # noqa: PT011
        cfs.root_is_initramfs()
    assert caught.value.errno == errno.EDOM


def test_a_measured_file(cfs: ModuleType, cfs_core: Core) -> None:
    def answer(_fd: int, request: int, argument: Any) -> int:
        if request == MEASURE_VERITY:
            cfs_core.ffi.buffer(argument, 4 + 32)[:] = b"\1\0\x20\0" + bytes.fromhex(HEX)
        return 0

    callback = cfs_core.ffi.callback("int(int, unsigned long, void *)", answer)
    cfs_core.lib.fault_sys_ioctl, cfs_core.lib.fault_file_system = callback, EXT4
    try:
        assert cfs.verity_measure(-1) == (cfs.SHA256, bytes.fromhex(HEX))
        assert cfs.filesystem_grow(-1, (1 << 64) - 1) is None
    finally:
        cfs_core.lib.fault_sys_ioctl, cfs_core.lib.fault_file_system = cfs_core.ffi.NULL, 0


def test_a_device_of_a_btrfs(cfs: ModuleType, cfs_core: Core) -> None:
    def answer(_fd: int, _request: int, argument: Any) -> int:
        told.append(cfs_core.ffi.string(cfs_core.ffi.cast("char *", argument) + 8))
        return 0

    told: list[bytes] = []
    callback = cfs_core.ffi.callback("int(int, unsigned long, void *)", answer)
    cfs_core.lib.fault_sys_ioctl = callback
    try:
        with cfs_core.account():
            assert cfs.btrfs_scan("/dev/\udcff") is None
        with cfs_core.account(1, errno.EDOM), pytest.raises(OSError) as caught:  # noqa: PT011
            cfs.btrfs_scan("/dev/vda")
    finally:
        cfs_core.lib.fault_sys_ioctl = cfs_core.ffi.NULL
    assert caught.value.errno == errno.EDOM
    assert told == [b"/dev/\xff"]


def test_a_list_that_its_own_key_empties(cfs: ModuleType, cfs_core: Core) -> None:
    class Key:
        def __fspath__(self) -> str:
            options.clear()
            return "a" * 100

    options: list[Any] = [(Key(), "b" * 100), ("c", None)]
    with cfs_core.account() as said:
        os.close(cfs.fs_mount("x", options, 0))
    assert said[1:3] == [f"{'a' * 100}={'b' * 100}", "c"]
