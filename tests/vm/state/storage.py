# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Image files and subvolumes as the place of the state."""

from collections.abc import Iterator

from tests.vm.disks import MIB
from tests.vm.product import refusal

from .case import Setup, case


def images() -> Iterator[Setup]:
    for kind in ("ext4", "btrfs"):
        grown = 12 * MIB if kind == "ext4" else 300 * MIB
        yield case(
            f"image-{kind}",
            "up && df -mP $S/var | awk 'NR > 1 { print "
            '"size", $2 }\' && echo v >$S/var/v && record && down && up && cat $S/var/v &&'
            "cat /proc/self/mountinfo",
            var="bind",
            state_var=f"/images/{kind}",
            state_grow=grown,
            stdout=(r"\Asize 12\n" if kind == "ext4" else r"\Asize 300\n")
            + r'.*"kind": "image file"(.*\n)v\n(.*\n)*.* /disk/var rw,nosuid,nodev.* - '
            rf"{kind} /dev/loop\d",
        )
        yield case(
            f"image-{kind}-overlay",
            "up &&"
            "stat -c '%a %u %g' $S/etc && echo edit >$S/etc/hostname && down && up &&"
            "cat $S/etc/hostname $S/etc/link",
            etc="overlay",
            state_etc=f"/images/{kind}-overlay",
            stdout=r"\A751 3 4\nedit\nedit\n",
        )
    yield case(
        "image-of-nothing",
        "up",
        var="bind",
        state_var="/images/nothing",
        code=32,
        stderr=refusal(
            "state",
            "/images/nothing",
            "no file system that is known here",
            "ext4 or btrfs in the image file",
            program="cfs-setup-root",
        ),
    )


def subvolumes() -> Iterator[Setup]:
    yield case(
        "subvolume",
        "mkdir -p $Q && btrfs subvolume create $Q/var && echo s >$Q/var/s &&"
        "btrfs subvolume create $Q/etc && up && cat $S/var/s && touch $S/etc/e && down &&"
        "ls $Q/etc",
        stdout=r"s\nupper\nwork\n",
        etc="overlay",
        var="bind",
    )
