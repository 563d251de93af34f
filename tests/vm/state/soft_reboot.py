# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root --soft-reboot`: a root at /run/nextroot with its record, or neither.

/run is shared, as systemd has it.
"""

from collections.abc import Iterator

from .case import Setup, case

_PRELUDE = """
mount --make-shared /run
next() { cfs-setup-root --sysroot /disk --config $conf --soft-reboot $1 2>/tmp/said; }
traced() {
    strace -fo /tmp/trace "$1" cfs-setup-root --sysroot /disk --config $conf --soft-reboot $2
}
seen() {
    if [ -e /run/nextroot/etc/hostname ]; then cat /run/nextroot/etc/hostname; fi
    echo mounts: $(grep -c ' /run/nextroot .* composefs:' /proc/self/mountinfo)
    if [ -e $N ]; then echo record: $(grep -cF "$1" $N); else echo no record; fi
}
away() { umount /run/nextroot/etc /run/nextroot/var /run/nextroot/sysroot /run/nextroot; }
N=/run/cfs/nextroot.json conf=/guest/configuration/"""
# How often a call is made: the last one is the one that attaches.
_COUNT = """
traced --trace=CALL $DIGEST 2>/dev/null && seen $DIGEST && away || exit 90
count=$(grep -c CALL /tmp/trace)
"""
_COUNTED = r"fixture\nmounts: 1\nrecord: 1\n"
_NEITHER = r"mounts: 0\nno record\n"
_END = """
umount -l /run/nextroot 2>/dev/null; rm -rf $N /run/nextroot
mount --make-private /run
"""
_REMEDY = r"umount -R /run/nextroot, and this command again\n"


def _case(
    name: str,
    script: str,
    *,
    stdout: str,
    stderr: str | None = None,
    code: int = 0,
    var: str = "transient",
) -> Setup:
    whole = _PRELUDE + name + "\n" + script
    return case(name, whole, end=_END, code=code, stdout=stdout, stderr=stderr, var=var)


def soft_reboot() -> Iterator[Setup]:
    # Another one would need the upper layers that the first one holds.
    yield _case(
        "next-again",
        "next $DIGEST && seen $DIGEST; next $DIGEST && cat /tmp/said; next $SECOND; code=$?;"
        "cat /tmp/said; seen $DIGEST; away; next $SECOND || exit 90; seen $SECOND; (exit $code)",
        var="overlay",
        code=32,
        stdout=rf"\A{_COUNTED}"
        r"cfs-setup-root: sha256:\w+ is mounted on /run/nextroot already\n"
        r"cfs-setup-root: refused: attach: /run/nextroot: sha256:\w+ is mounted there already, "
        rf"expected none: {_REMEDY}{_COUNTED}second\nmounts: 1\nrecord: 1\n\Z",
    )
    # The record of what somebody has unmounted is gone too; the disk was writable, and stays so.
    yield _case(
        "next-not-attached",
        _COUNT.replace("CALL", "move_mount")
        + "traced --inject=move_mount:error=ENOMEM:when=$count $SECOND;"
        "code=$?; seen $DIGEST; touch /disk/written && (exit $code)",
        var="bind",
        code=2,
        stdout=rf"\A{_COUNTED}{_NEITHER}\Z",
        stderr=r"\Acfs-setup-root: error: attach: /run/nextroot: Cannot allocate memory .*\n\Z",
    )
    yield _case(
        "next-killed",
        _COUNT.replace("CALL", "move_mount")
        + "traced --inject=move_mount:signal=KILL:when=$count $SECOND; seen $DIGEST;"
        "next $SECOND; seen $SECOND",
        stdout=rf"\A{_COUNTED}{_NEITHER}second\nmounts: 1\nrecord: 1\n\Z",
    )
    # Between attaching and the record.
    yield _case(
        "next-unrecorded",
        "traced --inject=?rename,?renameat,?renameat2:signal=KILL $DIGEST; seen $DIGEST;"
        "next $DIGEST; code=$?; cat /tmp/said; away; next $DIGEST && seen $DIGEST; (exit $code)",
        code=32,
        stdout=r"\Afixture\nmounts: 1\nno record\n"
        r"cfs-setup-root: refused: attach: /run/cfs/nextroot.json: no record of what lies at "
        rf"/run/nextroot, expected one: {_REMEDY}{_COUNTED}\Z",
    )
