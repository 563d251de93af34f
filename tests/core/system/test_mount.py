# SPDX-License-Identifier: Apache-2.0 OR MIT
"""mount.c: every word that the kernel is told of a mount; what it makes of them is in tests/vm.

An option that is not said is the kernel's configuration, or a parameter of its module.
"""

import errno
import os

import pytest

from tests.core.core import Core

RDONLY, NOSUID, NODEV = 1, 2, 4
PICKED = "fspick 0xd"  # FSPICK_CLOEXEC, _NO_AUTOMOUNT, _EMPTY_PATH


def overlay(
    core: Core,
    *,
    objects: int,
    upper: tuple[int, int] = (-1, -1),
    paths: tuple[bytes, ...] = (),
    require: bool,
    attributes: int,
    strict: bool = False,
) -> list[str]:
    what = core.ffi.new("struct cfs_overlay *")
    source = core.ffi.new("char[]", b"composefs:ab")
    what.source = source
    what.lower, what.objects, what.require_verity = 40, objects, require
    what.upper, what.work = upper
    what.strict = strict
    kept = [core.ffi.new("char[]", path) for path in paths]
    if paths:
        what.upper_path, what.work_path = kept
    log = core.ffi.new("struct cfs_log *")
    with core.account() as said:
        fd = core.lib.cfs_overlay_mount(what, attributes, log)
    os.close(fd)
    assert core.ffi.string(log.text) == b""
    return said


def test_the_sealed_root(core: Core) -> None:
    assert overlay(core, objects=41, require=True, attributes=RDONLY) == [
        "fsopen overlay",
        "source=composefs:ab",
        "metacopy=on",
        "redirect_dir=on",
        "verity=require",
        "lowerdir+=/proc/self/fd/40",
        "datadir+=/proc/self/fd/41",
        "create",
        "fsmount 0x1",
    ]


def test_an_upper_layer_that_is_not_trusted_above_the_layers_of_a_root(core: Core) -> None:
    said = overlay(
        core, objects=41, upper=(42, 43), require=True, attributes=NOSUID | NODEV, strict=True
    )
    assert said == [
        "fsopen overlay",
        "source=composefs:ab",
        "metacopy=off",
        "redirect_dir=nofollow",
        "verity=require",
        "upperdir=/proc/self/fd/42",
        "workdir=/proc/self/fd/43",
        "index=off",
        "lowerdir+=/proc/self/fd/40",
        "datadir+=/proc/self/fd/41",
        "create",
        "fsmount 0x6",
    ]


def test_a_sealed_root_with_an_upper_layer(core: Core) -> None:
    said = overlay(core, objects=41, upper=(42, 43), require=True, attributes=NOSUID | NODEV)
    assert said == [
        "fsopen overlay",
        "source=composefs:ab",
        "metacopy=on",
        "redirect_dir=on",
        "verity=require",
        "upperdir=/proc/self/fd/42",
        "workdir=/proc/self/fd/43",
        "lowerdir+=/proc/self/fd/40",
        "datadir+=/proc/self/fd/41",
        "create",
        "fsmount 0x6",
    ]


def test_an_upper_layer_by_other_paths(core: Core) -> None:
    """What mountinfo shows of it later."""
    said = overlay(
        core, objects=41, upper=(42, 43), paths=(b"/u/1", b"/u/2"), require=True, attributes=0
    )
    assert said[5:7] == ["upperdir=/u/1", "workdir=/u/2"]


def test_without_verity_only_where_asked_for(core: Core) -> None:
    assert "verity=require" not in overlay(core, objects=41, require=False, attributes=RDONLY)


def test_an_upper_layer_from_the_disk_is_not_followed(core: Core) -> None:
    said = overlay(core, objects=-1, upper=(42, 43), require=False, attributes=NOSUID | NODEV)
    assert said == [
        "fsopen overlay",
        "source=composefs:ab",
        "metacopy=off",
        "redirect_dir=nofollow",
        "upperdir=/proc/self/fd/42",
        "workdir=/proc/self/fd/43",
        "index=on",
        "lowerdir=/proc/self/fd/40",
        "create",
        "fsmount 0x6",
    ]


def test_an_image(core: Core) -> None:
    log = core.ffi.new("struct cfs_log *")
    used_loop = core.ffi.new("bool *")
    for noacl, said_of_it in ((True, ["noacl"]), (False, [])):
        with core.account() as said:
            os.close(core.lib.cfs_erofs_mount(40, noacl, False, used_loop, log))
        assert said == [
            "fsopen erofs", "ro", "source=/proc/self/fd/40", *said_of_it, "create",
            "fsmount 0x5",
        ]  # fmt: skip
        assert not used_loop[0]


def closed(result: int) -> int:
    if result >= 0:
        os.close(result)
    return result


def test_each_failure_is_told(core: Core) -> None:
    log = core.ffi.new("struct cfs_log *")
    used_loop = core.ffi.new("bool *")
    lib = core.lib
    core.each_call_fails(lambda: closed(lib.cfs_erofs_mount(40, True, False, used_loop, log)))
    core.each_call_fails(lambda: closed(lib.cfs_erofs_mount(40, True, True, used_loop, log)))
    assert core.each_call_fails(lambda: lib.cfs_mount_remount(40, True, log)) == [
        PICKED, "rw", "reconfigure",
    ]  # fmt: skip
    assert core.each_call_fails(lambda: lib.cfs_mount_remount(40, False, log))[1] == "ro"
    assert core.each_call_fails(lambda: lib.cfs_mount_detach(40)) == ["umount 0x2"]  # MNT_DETACH
    assert core.each_call_fails(lambda: lib.cfs_mount_move(b"/a", b"/b")) == ["move /a to /b"]
    # MOVE_MOUNT_F_EMPTY_PATH, _T_EMPTY_PATH
    assert core.each_call_fails(lambda: lib.cfs_mount_attach(40, 41)) == ["move_mount 0x44"]


def test_an_option_that_is_refused_is_named(core: Core) -> None:
    log = core.ffi.new("struct cfs_log *")
    option = core.ffi.new("struct cfs_option[2]")
    key, value = core.ffi.new("char[]", b"key"), core.ffi.new("char[]", b"v" * 200)
    option[0].key = option[1].key = key
    option[0].value = value
    for number, words in ((2, b"option key=" + b"v" * 148), (3, b"option key")):
        with core.account(number, errno.EINVAL):
            assert core.lib.cfs_fs_mount(b"x", option, 2, 0, log) == -errno.EINVAL
        assert core.ffi.string(log.text) == words
    with core.account():
        os.close(core.lib.cfs_fs_mount(b"x", option, 2, 0, log))
    assert core.ffi.string(log.text) == b""


def test_what_the_kernel_says_of_a_mount(core: Core) -> None:
    """Each message without its level and the end of its line."""
    log = core.ffi.new("struct cfs_log *")
    messages = b"e first\n\1w second\1\n\n\n\1i x\1\0"
    with core.account(2, errno.EINVAL):
        core.ffi.memmove(core.lib.account_messages, messages, len(messages))
        assert core.lib.cfs_fs_mount(b"x", core.ffi.NULL, 0, 0, log) == -errno.EINVAL
    assert core.ffi.string(log.text) == b"first; second; ; x"
    for fails_at, said in ((0, b""), (3, b"first; second; ; x")):
        with core.account(fails_at, errno.EINVAL):
            core.ffi.memmove(core.lib.account_messages, messages, len(messages))
            core.lib.cfs_mount_remount(40, False, log)
        assert core.ffi.string(log.text) == said


def test_an_image_that_needs_a_loop_device_where_there_is_none(core: Core) -> None:
    log = core.ffi.new("struct cfs_log *")
    used_loop = core.ffi.new("bool *")
    with core.account(5, errno.ENOTBLK) as said:
        core.lib.account_no_loop = 1
        assert core.lib.cfs_erofs_mount(40, True, False, used_loop, log) == -errno.ENOTBLK
    assert said.count("fsopen erofs") == 1
    with core.account(1, errno.EACCES):
        assert core.lib.cfs_erofs_mount(40, True, True, used_loop, log) == -errno.EACCES
    assert core.ffi.string(log.text).endswith(
        b"needs a block device here, and the loop device failed"
    )
    with core.account() as said:
        core.lib.account_no_loop = 1
        closed(core.lib.cfs_erofs_mount(40, True, True, used_loop, log))
    assert said[1] == "fsopen erofs"
    assert not used_loop[0]


@pytest.mark.parametrize(
    ("fail_at", "error", "prefers", "loop", "said_of_it"),
    [
        (0, 0, False, False, 1),
        (5, errno.ENOTBLK, False, True, 2),  # no image from a file: over a loop device
        (0, 0, True, True, 1),
        (1, errno.ENOENT, True, False, 1),  # no loop device: from the file
        (3, errno.ENOENT, True, False, 1),  # nor a node of one
    ],
)
def test_where_an_image_is_mounted_from(
    core: Core, fail_at: int, error: int, prefers: bool, loop: bool, said_of_it: int
) -> None:
    log = core.ffi.new("struct cfs_log *")
    used_loop = core.ffi.new("bool *")
    with core.account(fail_at, error) as said:
        closed(core.lib.cfs_erofs_mount(40, True, prefers, used_loop, log))
    assert said.count("fsopen erofs") == said_of_it
    assert used_loop[0] == loop
    assert ("open /dev/loop-control rw" in said) == (loop or prefers)


def test_an_older_kernels_spelling_of_the_layers(core: Core) -> None:
    """lowerdir+ is its sixth call: then the same layers by one word, and never a:b."""
    what = core.ffi.new("struct cfs_overlay *")
    what.source = source = core.ffi.new("char[]", b"composefs:ab")
    what.lower, what.objects, what.require_verity, what.upper = 40, 41, True, -1
    log = core.ffi.new("struct cfs_log *")
    with core.account(6, errno.EINVAL) as said:
        closed(core.lib.cfs_overlay_mount(what, 1, log))
    assert said[6:] == [
        "fsopen overlay", "source=composefs:ab", "metacopy=on", "redirect_dir=on",
        "verity=require", "lowerdir=/proc/self/fd/40::/proc/self/fd/41", "create", "fsmount 0x1",
    ]  # fmt: skip
    with core.account(6, errno.EIO) as said:
        assert core.lib.cfs_overlay_mount(what, 1, log) == -errno.EIO
    assert len(said) == 6
    # refused when it is created: a kernel that takes no unknown key has other reasons
    with core.account(8, errno.EINVAL) as said:
        closed(core.lib.cfs_overlay_mount(what, 1, log))
    assert said[8:10] == ["fsopen overlay", "cfs-no-such-key=1"]
    assert "lowerdir=/proc/self/fd/40::/proc/self/fd/41" in said
    assert source


def test_flags_of_clones_and_attributes(core: Core) -> None:
    lib = core.lib
    tree, empty, recursive = 1 | os.O_CLOEXEC, 0x1000, 0x8000  # OPEN_TREE_CLONE, AT_...
    for deep, more in ((False, 0), (True, recursive)):
        with core.account() as said:
            os.close(lib.cfs_mount_clone(40, deep))
            assert lib.cfs_mount_set(40, NOSUID, RDONLY, deep) == 0
        assert said == [
            f"open_tree {tree | empty | more:#x}",
            f"setattr {empty | more:#x} +0x2 -0x1",
        ]
