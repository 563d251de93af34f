# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Rows 33, 40, 41, 44, 48: what cfs-setup-root is told, and what interrupts a mount."""

from tests.vm.kernels import MOUNTS, STABLE

from .rows import Mounts, Outcome, Passes, Refused, Row

_OURS = 'cfs-mount --object-store "$S" --digest "$DIGEST" "$T"'
_SYSROOT = """
rm -rf "$S"; mkdir -p "$S" /sysroot /usr/lib/composefs
cp -al /disk/composefs "$S/composefs"
mount --bind "$S" /sysroot
carry() {
	echo cfsdig1 >/usr/lib/composefs/rootfs.digest
	for digest; do echo "rootfs=fsverity-sha256-12:$digest"; done >>/usr/lib/composefs/rootfs.digest
}
say() {
	echo "$*" >/tmp/cmdline
	mount --bind /tmp/cmdline /proc/cmdline
}
allow() {
	printf 'cfsconf1\\ndigest-source=any\\n' >/tmp/conf
	rm -f /usr/lib/composefs/rootfs.digest
}
no=0000000000000000000000000000000000000000000000000000000000000000
carry "$WHOLE"
rm -f /tmp/conf
"""
_SETUP = "if [ -e /tmp/conf ]; then cfs-setup-root --config /tmp/conf; else cfs-setup-root; fi"
_SEEN = """
code=$?
if grep -q ' /sysroot .* composefs:.*verity=require' /proc/self/mountinfo; then
	umount -l /sysroot
else
	code=94
fi
(exit $code)
"""
_CLEAN = (
    "umount /proc/cmdline 2>/dev/null; umount /sysroot 2>/dev/null;"
    "rm -f /usr/lib/composefs/rootfs.digest /tmp/conf; rm -rf /run/cfs; :"
)
_COMMAND_LINE = "kernel command line"
_CARRIED = "/usr/lib/composefs/rootfs.digest"


def _setup(
    number: int, variant: str, title: str, outcome: Outcome, prepare: str, check: str = ""
) -> Row:
    """A row about cfs-setup-root."""
    if isinstance(outcome, Mounts):
        command = f"{_SETUP} 2>/tmp/said && {check or ':'}{_SEEN}"
        outcome = Passes()
    else:
        command = _SETUP
    return Row(
        number,
        variant,
        title,
        outcome,
        prepare=_SYSROOT + prepare,
        command=command,
        clean=_CLEAN,
        program="cfs-setup-root",
        kernels=MOUNTS,
        limit=30,
    )


def _source(found: str, expected: str = "", path: str = _COMMAND_LINE) -> Refused:
    return Refused("source", path, found, expected)


def _interrupted(signal: str, call: str, when: int = 1) -> Row:
    code = {"KILL": 137, "TERM": 143}[signal]
    return Row(
        44,
        f"{signal.lower()}-{call}-{when}",
        f"SIG{signal} in {call}, call {when}",
        Passes(),
        command=f"inject {call}:signal={signal}:when={when} {_OURS}; code=$?; "
        f"[ $code = {code} ] || exit 91; is_mounted && exit 92; state >/tmp/now;"
        f'cmp /tmp/before /tmp/now || exit 93; {_OURS} && umount "$T"',
        kernels=(STABLE,),
    )


ROWS = (
    _setup(
        33,
        "same",
        "command line with the carried digest",
        Mounts(),
        'say "root=/dev/vda composefs=$WHOLE composefs.digest=v1-sha256-12:$WHOLE"',
    ),
    _setup(
        33,
        "other",
        "command line with a digest of its own",
        _source("sha256:{NO_VAR}", "sha256:{WHOLE}"),
        'say "composefs=$NO_VAR"',
    ),
    _setup(
        33,
        "twice",
        "command line with two digests",
        _source("two digests, sha256:{WHOLE} and sha256:{NO_VAR}"),
        'say "composefs=$WHOLE composefs=$NO_VAR"',
    ),
    _setup(
        33,
        "insecure",
        "command line with an insecure mark",
        _source(r"composefs=\? \(verification off\)", "a digest that is checked"),
        'say "composefs=?$WHOLE"',
    ),
    _setup(
        33,
        "empty",
        "command line with an empty digest",
        _source("composefs= without a digest"),
        "say composefs=",
    ),
    _setup(
        33,
        "not-allowed",
        "command line alone, and not allowed",
        _source("not in this initrd", ".*", _CARRIED),
        'rm /usr/lib/composefs/rootfs.digest; say "composefs=$WHOLE"',
    ),
    _setup(
        33,
        "allowed",
        "command line alone, where the initrd allows it",
        Mounts(),
        'allow; say "composefs=$WHOLE"',
    ),
    _setup(
        33,
        "after-dashes",
        "what stands after -- is init's",
        _source("no composefs= .*", "a digest"),
        'allow; say "root=/dev/vda -- composefs=$WHOLE"',
    ),
    _setup(
        34,
        "not-utf-8",
        "command line of 4 KiB, quoted, not UTF-8",
        Mounts(),
        'allow; say "$(printf \'x=\\377\\240 "a b=c" %04000d\' 0) composefs=\\"$WHOLE\\""',
    ),
    _setup(
        40,
        "no-var",
        "mount point missing in the image",
        Refused("state", "/var", ".*ENOENT.*", "a directory in the image"),
        'carry "$NO_VAR"',
    ),
    Row(
        41,
        "same",
        "run twice with the same digest",
        Passes(),
        command=f"{_OURS} || exit 90; state >/tmp/first; {_OURS}; code=$?;"
        'state | cmp /tmp/first || exit 93; umount "$T"; (exit $code)',
        kernels=MOUNTS,
    ),
    Row(
        41,
        "other",
        "run twice with different digests",
        Passes(),
        command=f"{_OURS} || exit 90; state >/tmp/first; DIGEST=$E; {_OURS}; code=$?;"
        'state | cmp /tmp/first || exit 93; umount "$T"; [ $code = 32 ]',
        kernels=MOUNTS,
    ),
    _setup(
        41,
        "setup-root",
        "cfs-setup-root run twice",
        Mounts(),
        "",
        "state >/tmp/first && cfs-setup-root 2>>/tmp/said && state | cmp /tmp/first"
        " && grep -q already /tmp/said",
    ),
    *(
        _interrupted("KILL", call, when)
        for call, when in (
            ("openat2", 1),
            ("ioctl", 1),
            ("unshare", 1),
            ("fsopen", 1),
            ("fsmount", 1),
            ("move_mount", 1),
            ("fsopen", 2),
            ("fsconfig", 8),
            ("fsmount", 2),
            ("move_mount", 2),
            ("open_tree", 1),
            ("setns", 1),
            ("move_mount", 3),
        )
    ),
    *(
        _interrupted("TERM", call, when)
        for call, when in (
            ("ioctl", 1),
            ("fsmount", 2),
            ("open_tree", 1),
            ("move_mount", 2),
        )
    ),
    _setup(
        48,
        "next",
        "first candidate's image missing: the next",
        Mounts(),
        'carry "$no" "$WHOLE"',
        'grep -q "candidate sha256:$no has no image" /tmp/said',
    ),
    _setup(
        48,
        "all-missing",
        "no candidate's image is there",
        Refused("open", ".*", ".*ENOENT.*", "image sha256:f{64}"),
        'carry "$no" "$(echo $no | tr 0 f)"',
    ),
    _setup(
        48,
        "wrong-first",
        "first candidate's image wrong: no other is tried",
        Refused(
            "measure", "/sysroot/composefs/images/{NO_VAR}", "sha256:{WHOLE}", "sha256:{NO_VAR}"
        ),
        'carry "$NO_VAR" "$WHOLE"; rm "$S/composefs/images/$NO_VAR";'
        'ln -s "$(readlink "$S/composefs/images/$WHOLE")" "$S/composefs/images/$NO_VAR"',
    ),
)
