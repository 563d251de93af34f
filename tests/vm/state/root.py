# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A writable root, and the root file system below it at /sysroot."""

from collections.abc import Iterator

from tests.vm.product import refusal

from .case import Setup, case


def root() -> Iterator[Setup]:
    writable = "up && echo x >$S/usr/new && echo x >$S/new && rm $S/usr/bin/program && "
    # What lies over a writable root must be seen in it, not below it.
    yield case(
        "root-transient",
        writable + "echo e >$S/etc/e && echo v >$S/var/v &&"
        "cat $S/sysroot/meta || cat $S/sysroot/repo/meta.json && [ ! -e $Q/etc ] &&"
        "stat -c %a $S && down && cat $Q/etc/upper/e $Q/var/v &&"
        "up && [ ! -e $S/new ] && [ -x $S/usr/bin ] && cat $S/etc/e $S/var/v && record",
        root="transient",
        etc="overlay",
        var="bind",
        # 777 is what the image says of its root
        stdout=r'features.*777\ne\nv\ne\nv\n.*"root": "transient"',
    )
    yield case(
        "root-transient-etc-none",
        writable + "echo e >$S/etc/e && cat $S/etc/e && down && up &&[ ! -e $S/etc/e ]",
        root="transient",
        etc="none",
        var="none",
        stdout=r"\Ae\n",
    )
    yield case(
        "root-transient-ro",
        "up && ! touch $S/new 2>/dev/null && touch $S/etc/e &&"
        "mount -o remount,rw $S && touch $S/new && ls $S/new",
        root="transient-ro",
        stdout="/disk/new",
    )
    # The root file system as an initrd leaves it: read-only.
    yield case(
        "read-only-disk",
        "mount -o remount,ro /disk && up && echo e >$S/etc/e && record &&"
        "! touch $S/sysroot/x 2>/dev/null && grep ' /disk/sysroot ro' /proc/self/mountinfo",
        etc="overlay",
        var="none",
        stdout='"sysroot": "read-only"',
        end="down; mount -o remount,rw /disk\n",
    )
    yield case(
        "read-only-disk-stays",
        "mount -o remount,ro /disk && up && ! touch /disk/x 2>/dev/null &&down && touch /disk/x",
        stderr=r"touch: /disk/x: Read-only file system",
        code=1,
        end="down; mount -o remount,rw /disk\n",
    )
    yield case(
        "read-only-disk-restored",
        "mount -o remount,ro /disk && up; code=$?;"
        "grep ' /disk ' /proc/self/mountinfo; mount -o remount,rw /disk; exit $code",
        stdout=r" /disk r.* - \w+ /dev/vda ro",
        code=32,
        etc="bind",
        var="bind",
        state_missing="refuse",
    )
    yield case(
        "sysroot-writable",
        "up && echo x >$S/sysroot/state/w && down && cat /disk/state/w",
        sysroot_readonly=False,
        stdout=r"\Ax\n",
    )


def medium() -> Iterator[Setup]:
    """A medium with a lock: the block device is read-only, whoever asks for what."""
    mounted = "mkdir -p /medium && mount -t ext4 -o ro /dev/vdb /medium && "
    yield case(
        "medium",
        mounted + "up /medium && touch /medium/etc/x && ! touch /medium/usr/x 2>/dev/null &&"
        "grep ' /medium/sysroot ro' /proc/self/mountinfo && record",
        etc="transient",
        var="transient",
        stdout='"etc": "transient", "var": "tmpfs"',
        end="down /medium; umount /medium\n",
    )
    yield case(
        "medium-state",
        mounted + "up /medium",
        etc="transient",
        var="bind",
        code=32,
        stderr=refusal(
            "state",
            "/medium",
            r"the disk is write-protected: Permission denied \(EACCES\)",
            "a disk that can be written to",
            program="cfs-setup-root",
        ),
        end="umount /medium\n",
    )
