# SPDX-License-Identifier: Apache-2.0 OR MIT
"""namespace.c: the way into a namespace of our own and back; nothing is left of half of it."""

import errno
import os

import pytest

from tests.core.core import Core

PLACE = os.O_PATH | os.O_DIRECTORY
BACK = ["setns 0x20000", "fchdir", "chroot .", "fchdir"]
PRIVATE = "propagation / 0x44000"  # MS_REC | MS_PRIVATE


def test_in_and_out(core: Core) -> None:
    def run() -> int:
        saved = core.ffi.new("struct cfs_namespace *")
        result: int = core.lib.cfs_namespace_enter(saved)
        if result >= 0:
            result = core.lib.cfs_namespace_leave(saved)
            assert (saved.mount_ns, saved.root, saved.cwd) == (-1, -1, -1)
        return result

    assert core.each_call_fails(run, "propagation") == [
        "open /proc/self/ns/mnt 0", f"open / {PLACE:#x}", f"open . {PLACE:#x}",
        "unshare 0x20000", PRIVATE, *BACK,
    ]  # fmt: skip


def test_in_a_chroot_whose_root_is_no_mount(core: Core) -> None:
    """The kernel takes "/" for no mount there. The copy is made private at its root."""
    saved = core.ffi.new("struct cfs_namespace *")
    with core.account(5, errno.EINVAL) as said:
        assert core.lib.cfs_namespace_enter(saved) == 0
        assert core.lib.cfs_namespace_leave(saved) == 0
    here = ["open /proc/self/ns/mnt 0", f"open / {PLACE:#x}", f"open . {PLACE:#x}"]
    assert said[4:] == [PRIVATE, *here, "setns 0x20000", PRIVATE, *BACK[1:], *BACK]


@pytest.mark.parametrize("number", range(6, 14))
def test_a_chroot_where_that_fails_is_left_again(core: Core, number: int) -> None:
    """Whichever call it is: the error is that call's, and nothing else is made private."""
    saved = core.ffi.new("struct cfs_namespace *")
    with core.account(5, errno.EINVAL, number, errno.EDOM) as said:
        result = core.lib.cfs_namespace_enter(saved)
    here = ["open /proc/self/ns/mnt 0", f"open / {PLACE:#x}", f"open . {PLACE:#x}"]
    tried = [*here, "setns 0x20000", PRIVATE, *BACK[1:]]
    # 10: it goes back into the chroot also where the copy is not made private
    reached = len(tried) if number == 10 else number - 5
    assert said[5:] == [*tried[:reached], *BACK]
    assert result == -errno.EDOM


def test_what_is_not_private_is_left_again(core: Core) -> None:
    """Else the caller's own mounts were gone for it, and ours seen by all."""
    saved = core.ffi.new("struct cfs_namespace *")
    with core.account(5, errno.EDOM) as said:
        assert core.lib.cfs_namespace_enter(saved) == -errno.EDOM
    assert said[4:] == [PRIVATE, *BACK]
