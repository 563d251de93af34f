# SPDX-License-Identifier: Apache-2.0 OR MIT
"""mount.c: every word that the kernel is told of a mount; what it makes of them is in tests/vm.

An option that is not said is the kernel's configuration, or a parameter of its module.
"""

import os

from tests.core.core import Core

RDONLY, NOSUID, NODEV = 1, 2, 4


def overlay(
    core: Core, *, objects: int, upper: tuple[int, int] = (-1, -1), require: bool, attributes: int
) -> list[str]:
    what = core.ffi.new("struct cfs_overlay *")
    source = core.ffi.new("char[]", b"composefs:ab")
    what.source = source
    what.lower, what.objects, what.require_verity = 40, objects, require
    what.upper, what.work = upper
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
        "fsmount 0x1",
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
        "fsmount 0x6",
    ]


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
        "fsmount 0x6",
    ]


def test_an_image(core: Core) -> None:
    log = core.ffi.new("struct cfs_log *")
    used_loop = core.ffi.new("bool *")
    for noacl, said_of_it in ((True, ["noacl"]), (False, [])):
        with core.account() as said:
            os.close(core.lib.cfs_erofs_mount(40, noacl, False, used_loop, log))
        assert said == [
            "fsopen erofs", "ro", "source=/proc/self/fd/40", *said_of_it, "fsmount 0x5",
        ]  # fmt: skip
        assert not used_loop[0]
