# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root --soft-reboot`: another root takes an earlier one's place, whole or not at all.

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
    cat /run/nextroot/etc/hostname
    echo mounts: $(grep -c ' /run/nextroot .* composefs:' /proc/self/mountinfo)
    if [ -e $N ]; then echo record: $(grep -cF "$1" $N); else echo no record; fi
    ls /run/cfs | grep earlier || :
}
again() { umount /run/nextroot/etc /run/nextroot/var /run/nextroot/sysroot /run/nextroot; rm $N; }
N=/run/cfs/nextroot.json conf=/guest/configuration/"""
# How often a call is made: the last one is the one that attaches, or detaches.
_COUNT = """
next $DIGEST && traced --trace=CALL $SECOND 2>/dev/null && seen $SECOND && again || exit 90
count=$(grep -c CALL /tmp/trace)
next $DIGEST || exit 91
"""
_COUNTED = r"second\nmounts: 1\nrecord: 1\n"
_END = """
umount -l /run/nextroot; umount -l /run/nextroot 2>/dev/null; rm -rf $N* /run/nextroot
mount --make-private /run
"""


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
    yield _case(
        "next-replaced",
        "next $DIGEST && seen $DIGEST; next $SECOND && seen $SECOND; next $SECOND && cat /tmp/said",
        var="bind",
        stdout=r"\Afixture\nmounts: 1\nrecord: 1\nsecond\nmounts: 1\nrecord: 1\n"
        r"cfs-setup-root: sha256:\w+ is mounted on /run/nextroot already\n\Z",
    )
    # The disk was writable before, and stays so.
    yield _case(
        "next-not-attached",
        _COUNT.replace("CALL", "move_mount")
        + "traced --inject=move_mount:error=ENOMEM:when=$count $SECOND;"
        "code=$?; seen $DIGEST; touch /disk/written && (exit $code)",
        var="bind",
        code=2,
        stdout=rf"\A{_COUNTED}fixture\nmounts: 1\nrecord: 1\n\Z",
        stderr=r"\Acfs-setup-root: error: attach: /run/nextroot: Cannot allocate memory .*\n\Z",
    )
    # What a kernel without MOVE_MOUNT_BENEATH answers.
    yield _case(
        "next-not-beneath",
        _COUNT.replace("CALL", "move_mount")
        + "traced --inject=move_mount:error=EINVAL:when=$count $SECOND; code=$?; seen $DIGEST;"
        "(exit $code)",
        code=32,
        stdout=rf"\A{_COUNTED}fixture\nmounts: 1\nrecord: 1\n\Z",
        stderr=r"refused: attach: /run/nextroot: Invalid argument \(EINVAL\), "
        r"expected a kernel that mounts beneath a mount \(Linux 6\.5\)\n\Z",
    )
    yield _case(
        "next-earlier-stays",
        _COUNT.replace("CALL", "umount2")
        + "traced --inject=umount2:error=EPERM:when=$count $SECOND; code=$?; seen $DIGEST;"
        "(exit $code)",
        code=32,
        stdout=rf"\A{_COUNTED}fixture\nmounts: 2\nrecord: 1\n\Z",
    )
    yield _case(
        "next-killed",
        _COUNT.replace("CALL", "move_mount")
        + "traced --inject=move_mount:signal=KILL:when=$count $SECOND; seen $DIGEST;"
        "next $SECOND; seen $SECOND",
        stdout=rf"\A{_COUNTED}fixture\nmounts: 1\nno record\n"
        r"nextroot.json.earlier\nsecond\nmounts: 1\nrecord: 1\n\Z",
    )
