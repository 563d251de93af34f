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
            # that of btrfs is larger than this disk, which has to be asked for
            state_grow=300 * MIB if kind == "btrfs" else 0,
            stdout=r"\A751 3 4\nedit\nedit\n",
        )
    # Written into a good one: a journal on the device of that number; a size that no disk here has.
    yield case(
        "image-with-a-journal-elsewhere",
        "cp /disk/images/small /disk/images/elsewhere && printf '\\007\\376' |"
        "dd of=/disk/images/elsewhere bs=1 seek=$((1024 + 0xe4)) conv=notrunc 2>/dev/null && up",
        var="bind",
        state_var="/images/elsewhere",
        code=32,
        end="down; rm /disk/images/elsewhere\n",
        stderr=refusal(
            "state",
            "/images/elsewhere",
            "ext4: its journal is on another device",
            "a file system that is whole in the image file",
            program="cfs-setup-root",
        ),
    )
    yield case(
        "image-larger-than-the-disk",
        "cp /disk/images/small /disk/images/large && "
        "truncate -s 1099511627776 /disk/images/large && up",
        var="bind",
        state_var="/images/large",
        code=32,
        end="down; rm /disk/images/large\n",
        stderr=refusal(
            "state",
            "/images/large",
            "an image file of 1099511627776 bytes",
            r"at most \d+, as large as the disk",
            program="cfs-setup-root",
        ),
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
            "no known file system",
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
