# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every mode of /etc and /var, and what is kept from one boot to the next."""

from collections.abc import Iterator

from .case import Setup, case
from .disk import LABEL


def etc_var() -> Iterator[Setup]:
    yield case(
        "defaults",
        "find /disk/state >/tmp/1; up && echo edit >$S/etc/hostname && echo x >$S/var/x &&"
        "! echo x 2>/dev/null >$S/usr/x && ! echo x 2>/dev/null >$S/sysroot/x && record && down &&"
        "up && cat $S/etc/hostname && [ ! -e $S/var/x ] && [ ! -e $S/var/lib ] &&"
        "find $S/sysroot/state >/tmp/2; sed 's#/disk#/disk/sysroot#' /tmp/1 | cmp - /tmp/2",
        stdout=r'"etc": "transient", "var": "tmpfs", "state": {}, .*\nfixture\n',
    )
    yield case(
        "sizes",
        "up && df -kP $S/etc $S/var $S | awk 'NR > 1 { print $2 }'; touch $S/new",
        stdout=r"\A1024\n2048\n3072\n",
        root="transient",
        etc="transient",
        etc_size="1048576",
        var_size="2097152",
        root_size="3145728",
    )
    yield case(
        "none",
        "up && ! touch $S/etc/x 2>/dev/null && ! touch $S/var/x 2>/dev/null &&"
        "[ ! -e /disk/state/none ] && cat $S/etc/hostname $S/var/lib/shipped",
        stdout=r"\Afixture\nshipped\n",
        etc="none",
        var="none",
    )
    edit = (
        "up && stat -c '%a %u %g' $S/etc $S/var && getxattr $S/etc security.selinux &&"
        "getxattr $S/var user.kept && record && echo edit >$S/etc/hostname && echo v >$S/var/v &&"
        "rm $S/etc/sub/data && cat $S/etc/os-release | tail -n 1 && down && up &&"
        "cat $S/etc/hostname $S/var/v $S/var/lib/shipped && [ ! -e $S/etc/sub/data ] && record &&"
        "cat /proc/self/mountinfo && ! touch $S/usr/x 2>/dev/null"
    )
    both = rf"\A751 3 4\n755 7 8\n{LABEL}\nyes\n"
    yield case(
        "peers",
        edit,
        etc="overlay",
        var="bind",
        stdout=both + r'(.*\n)*.*"loop": true, .*"etc": "overlay", "var": "bind", .*"created": true'
        r'.*\n# padding\nedit\nv\nshipped\n.*"created": false(.*\n)*'
        r".* /disk/etc rw,nosuid,nodev.* - overlay cfs-etc .*redirect_dir=nofollow.*\n"
        r".* /disk/var rw,nosuid,nodev.* - (ext4|btrfs) ",
    )
    yield case(
        "etc-bind-var-overlay",
        edit,
        etc="bind",
        var="overlay",
        stdout=both
        + r"(.*\n)*edit\nv\nshipped\n(.*\n)*.* /disk/var rw.* - overlay cfs-var .*nofollow",
    )
    yield case(
        "copy",
        "up && cp -a /guest/configuration/copy /tmp/none &&"
        "sed -i 's/etc=bind/etc=none/; s/var=bind/var=none/' /tmp/none &&"
        "dumptree $S/etc && dumptree $S/var && echo AND && down &&"
        "cfs-setup-root --sysroot $S --config /tmp/none && dumptree $S/etc && dumptree $S/var",
        etc="bind",
        var="bind",
    )
    yield case(
        "var-on-disk",
        "up && echo x >$S/var/x && [ ! -e $S/var/lib ] && stat -c '%a %u %g' $S/var && record &&"
        "down && up && cat $S/var/x && record && down && mkdir -p $Q/var.transient/old/sub &&"
        "ln -s /disk/repo $Q/var.transient/old/link && mv $Q/var.transient/*-* "
        "$Q/var.transient/earlier && up && settled && [ ! -e $S/var/x ] && "
        "ls $S/sysroot/state/var-on-disk/*/* && [ -e $S/sysroot/repo/meta.json ]",
        var="transient-disk",
        stdout=r'\A755 7 8\n.*"var": "transient-disk".*"created": true.*\nx\n'
        r'.*"created": false.*\n'
        r"[0-9a-f]{8}-[0-9a-f-]{27}\n\Z",
    )
    yield case(
        "ostree-var",
        "mkdir -p /disk/ostree/deploy/os/var && echo o >/disk/ostree/deploy/os/var/o"
        "&& up && cat $S/var/o",
        stdout=r"\Ao\n",
        var="bind",
        state_var="/ostree/deploy/os/var",
        state_missing="refuse",
    )
    yield case(
        "modules-of-the-record",
        "up && record",
        etc="overlay",
        var="transient-disk",
        stdout=r'"state": {"etc": {"path": "/state/modules-of-the-record/[0-9a-f]{64}/etc", '
        r'"kind": "directory", "created": true}, "var": {"path": ".*/var.transient/',
    )
