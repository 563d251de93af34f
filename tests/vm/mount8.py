# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What mount(8) asks of its helper in daily use, and places that are no ordinary system.

For test_mount.py: $R is the store, $D and $E are digests of its image, $T is where it goes. Each
case takes away what it has mounted.
"""

from .cases import Case
from .product import refusal

_UPPER = "upperdir=/disk/state/u,workdir=/disk/state/w"
_MAKE = "mkdir /disk/state/u /disk/state/w; "
_END = "; umount $T; rm -rf /disk/state/u /disk/state/w; exit $code"
# What mountinfo says of $T.
_OPTIONS = "sed -n 's,^[^/]*/ /mnt/root \\([^ ]*\\) .*- overlay.*,\\1,p' /proc/self/mountinfo"
_ALREADY = r"sha256:[0-9a-f]{64} is mounted there already"


def _fstab(options: str, *more: str) -> str:
    lines = [f"$R $T cfs {options} 0 0", *more]
    return (
        "mkdir -p /etc; printf '%s\\n' "
        + " ".join(f'"{line}"' for line in lines)
        + " >/etc/fstab; "
    )


def _refused(path: str, found: str, expected: str, step: str = "attach") -> str:
    return refusal(step, path, found, expected, program="mount.cfs")


AGAIN = [
    Case(
        "again-all",
        _MAKE
        + _fstab(
            "digest=$D",
            "$R /mnt/up cfs digest=$D," + _UPPER + " 0 0",
            "$R /mnt/off cfs digest=$D,verity=off 0 0",
            "$R /mnt/512 cfs digest=$E,nosuid,x-mine 0 0",
        )
        + "places='/mnt/up /mnt/off /mnt/512'; mkdir $places; mount8 -a; code=$?; "
        "cat /proc/self/mountinfo >/tmp/1; grep -c ' - overlay composefs:' /tmp/1; "
        "for i in 1 2; do mount8 -a || code=$?; done; "
        "cmp /tmp/1 /proc/self/mountinfo || code=98; umount $places; rmdir $places" + _END,
        stdout=r"\A4\n\Z",
        limit=60,
    ),
    Case(
        "again-upper-by-another-path",
        _MAKE + f"mount.cfs $R $T -o digest=$D,{_UPPER} && ln -s state /disk/link && mount.cfs "
        "$R $T -v -o digest=$D,upperdir=/disk/link/../link/u,workdir=/disk/state/w; code=$?; "
        "rm /disk/link; grep -c ' /mnt/root ' /proc/self/mountinfo" + _END,
        stdout=r"\A1\n\Z",
        stderr=r"\Amount\.cfs: sha256:\w+ is mounted on /mnt/root already\n\Z",
    ),
    Case(
        "again-another-upper",
        _MAKE + f"mkdir /disk/state/v; mount.cfs $R $T -o digest=$D,{_UPPER} && mount.cfs $R $T "
        "-o digest=$D,upperdir=/disk/state/v,workdir=/disk/state/w; code=$?; rmdir /disk/state/v"
        + _END,
        code=32,
        stderr=_refused(
            "/mnt/root",
            f"{_ALREADY}, with another upper directory",
            "the upper directory /disk/state/v",
        ),
    ),
    Case(
        "again-without-upper",
        _MAKE + f"mount.cfs $R $T -o digest=$D && mount.cfs $R $T -o digest=$D,{_UPPER}; code=$?"
        + _END,
        code=32,
        stderr=_refused(
            "/mnt/root", f"{_ALREADY}, without an upper layer", "the upper directory /disk/state/u"
        ),
    ),
    Case(
        "again-unchecked",
        "mount.cfs $R $T -o digest=$D,verity=off && mount.cfs $R $T -o digest=$D; code=$?" + _END,
        code=32,
        stderr=rf"attach: /mnt/root: {_ALREADY}, unchecked, expected verity=require\n\Z",
    ),
    Case(
        "again-another-digest",
        f"mount.cfs $R $T -o digest=$D && mount.cfs $R $T -o digest=$E; code=$?{_END}",
        code=32,
        stderr=_refused("/mnt/root", _ALREADY, "sha512:[0-9a-f]{128}"),
    ),
    Case(
        "again-less-rights",
        "mount.cfs $R $T -o digest=$D && mount.cfs $R $T -o nosuid,noexec,digest=$D; code=$?"
        + _END,
        stderr=r"\Amount\.cfs: warning: /mnt/root is mounted already, without nosuid,noexec: "
        r"mount -o remount,nosuid,noexec\n\Z",
    ),
    *(
        Case(
            name,
            _MAKE + f"mkdir /mnt/second /disk/state/v; mount.cfs $R $T -o digest=$D,{_UPPER} && "
            f"mount.cfs $R /mnt/second -o digest=$D,{options}; code=$?; "
            "rmdir /mnt/second /disk/state/v" + _END,
            code=32,
            stderr=_refused(
                path, f"in use as {key} of the mount on /mnt/root",
                "a directory that no other mount uses", step="overlay",
            ),
        )
        for name, key, options, path in (
            (
                "upper-of-another-mount", "upperdir",
                "upperdir=/disk/state/u,workdir=/disk/state/v", "/disk/state/u",
            ),
            (
                "work-of-another-mount", "workdir",
                "upperdir=/disk/state/v,workdir=/disk/state/w", "/disk/state/w",
            ),
        )
    ),
]  # fmt: skip

REMOUNT = [
    Case(
        "remount-attributes",
        _fstab("digest=$D,nodev")
        + "mount8 $T && mount8 -o remount,nosuid,noexec,noatime $T && "
        + _OPTIONS
        # mount(8) of util-linux 2.38 hands no suid over.
        + " && mount.cfs $R $T -o remount,suid,strictatime,nosymfollow; code=$?; "
        + _OPTIONS
        + _END,
        stdout=r"\Aro,nosuid,nodev,noexec,noatime\nro,nodev,noexec,nosymfollow\n\Z",
        stderr=r"\A\Z",
    ),
    Case(
        "remount-read-only-and-back",
        _MAKE + _fstab(f"digest=$D,{_UPPER}") + "mount8 $T && mount8 -o remount,ro $T && "
        "! touch $T/new 2>/dev/null && mount8 -o remount,rw $T && touch $T/new; code=$?; "
        "ls /disk/state/u" + _END,
        stdout=r"\Anew\n\Z",
    ),
    Case(
        "remount-of-all",
        _MAKE + f"mount.cfs $R $T -o digest=$D,{_UPPER} && mkdir -p $T/proc && "
        "mount -t proc proc $T/proc && cp /usr/bin/cfs-mount $T/mount.cfs && "
        "chroot $T /mount.cfs $R / -o remount,nodev,noatime; code=$?; umount $T/proc; "
        + _OPTIONS
        + _END,
        stdout=r"\Arw,nodev,noatime\n\Z",
        stderr=r"\A\Z",
    ),
    Case(
        "remount-while-a-file-is-written",
        _MAKE + f"mount.cfs $R $T -o digest=$D,{_UPPER} && exec 5>$T/new && "
        "mount.cfs $R $T -o remount,ro; code=$?; exec 5>&-" + _END,
        code=32,
        stderr=_refused(
            "/mnt/root",
            r"files there are open for writing: .*\(EBUSY\)",
            r"none \(fuser -vm /mnt/root names who\)",
        ),
    ),
    Case(
        "remount-writable-without-upper",
        _fstab("digest=$D") + f"mount8 $T && mount8 -o remount,rw $T; code=$?; {_OPTIONS}{_END}",
        stdout=r"\Aro,",
        stderr=r"\Amount\.cfs: /mnt/root stays read-only: it has no upper layer; mount it anew",
    ),
    Case(
        "remount-another-digest",
        f"mount.cfs $R $T -o digest=$D && mount.cfs $R $T -o remount,nosuid,digest=$E; code=$?; "
        f"{_OPTIONS}{_END}",
        code=32,
        stdout=r"\Aro,relatime\n\Z",
        stderr=_refused("/mnt/root", _ALREADY, "sha512:[0-9a-f]{128}"),
    ),
    Case(
        "remount-nothing",
        "mount.cfs $R $T -o remount,nosuid",
        code=32,
        stderr=_refused("/mnt/root", "no composed root is mounted there", "one to remount: .*"),
    ),
    Case(
        "remount-by-mount-alone",
        f"mount.cfs $R $T -o digest=$D && mount8 -o remount,bind,ro,nosuid $T; code=$?; "
        f"{_OPTIONS}{_END}",
        stdout=r"\Aro,nosuid,",
    ),
]

OPTIONS = [
    Case(
        "generic-options",
        "mount8 -t cfs $R $T -o strictatime,nosymfollow,lazytime,sync,dirsync,mand,iversion,nofail,"
        f"_netdev,comment=x,x-mine,digest=$D; code=$?; {_OPTIONS}{_END}",
        stdout=r"\Aro,nosymfollow\n\Z",
    ),
    Case(
        "nosymfollow",
        "mount8 -t cfs $R $T -o digest=$D,nosymfollow && ! cat $T/etc/link && "
        f"mount.cfs $R $T -o remount,symfollow && ls -L $T/etc/link >/dev/null; code=$?{_END}",
        stderr="Too many levels of symbolic links",
    ),
    Case(
        "users-may-less",
        _fstab("digest=$D,users,exec") + f"mount8 $T; code=$?; {_OPTIONS}{_END}",
        stdout=r"\Aro,nosuid,nodev,relatime\n\Z",
    ),
    Case(
        "sync-with-upper",
        _MAKE + f"mount8 -t cfs $R $T -o digest=$D,sync,{_UPPER}; code=$?; rm -r /disk/state/[uw]; "
        "exit $code",
        code=1,
        stderr=r"\Amount\.cfs: error: usage: sync: what is written goes to another file system",
    ),
    Case(
        "bind-of-a-type",
        "mount.cfs $R $T -o bind,digest=$D",
        code=1,
        stderr="usage: bind: no matter of this file system",
    ),
    Case(
        "quoted",
        "ln /disk/image.cfs /disk/a,b.cfs; "
        "mount8 -t cfs $R $T -o 'nosuid,image=\"/disk/a,b.cfs\",digest='$D; code=$?; "
        f"rm /disk/a,b.cfs; {_OPTIONS}{_END}",
        stdout=r"\Aro,nosuid,relatime\n\Z",
    ),
    Case(
        "json-of-a-name-that-is-no-text",
        "T=$(printf '/mnt/\\377\\\\'); mkdir \"$T\"; cfs-mount --object-store $R --digest $D "
        '--json "$T"; code=$?; umount "$T"; rmdir "$T"; exit $code',
    ),
]

# A chroot, whose / is a directory of a tmpfs and no mount.
_JAIL = (
    "J=/tmp/jail; mkdir -p $J/proc $J/mnt $J/disk $J/root; cp /usr/bin/cfs-mount $J/; "
    "mount --bind /disk $J/disk; "
)
_OUT = "; umount $J/disk; rm -r $J; exit $code"
_PLACE = r"error: attach: /mnt/root: "
PLACES = [
    Case(
        "chroot",
        _JAIL + "mount -t proc proc $J/proc; mkdir $J/disk/state/u $J/disk/state/w; "
        "for more in '' '--upperdir disk/state/u --workdir /disk/state/w'; do "
        "chroot $J /cfs-mount --object-store disk/repo --digest $D $more mnt && "
        "chroot $J /cfs-mount --object-store /disk/repo --digest $D $more -v /mnt && "
        "cat $J/mnt/etc/hostname && ! ls $J/mnt/proc/self 2>/dev/null; code=$?; "
        "umount $J/mnt || code=97; done; rm -r $J/disk/state/u $J/disk/state/w; umount $J/proc"
        + _OUT,
        stdout=r"\Afixture\nfixture\n\Z",
        stderr=r"\A(cfs-mount: \S+ is mounted on /mnt already\n){2}\Z",
    ),
    Case(
        "no-proc",
        _JAIL + "chroot $J /cfs-mount --object-store /disk/repo --digest $D /mnt; code=$?" + _OUT,
        code=2,
        stderr=r"\Acfs-mount: error: attach: /proc/self: No such file or directory \(ENOENT\), "
        r"expected /proc mounted, .*mount -t proc proc /proc\n\Z",
    ),
    Case(
        "user-namespace",
        "unshare -U -r -m cfs-mount --object-store $R --digest $D $T",
        code=2,
        stderr=r"\Acfs-mount: error: erofs: .*: Operation not permitted \(EPERM\), expected root "
        r"of the machine: in a user namespace the kernel mounts no EROFS\n\Z",
    ),
    Case(
        "root-of-a-container",
        "setpriv8 --bounding-set -sys_admin --inh-caps -sys_admin "
        "cfs-mount --object-store $R --digest $D $T",
        code=2,
        stderr=rf"\Acfs-mount: {_PLACE}Operation not permitted \(EPERM\), expected CAP_SYS_ADMIN, "
        r"which root has not got here: a container\?\n\Z",
    ),
    Case(
        "no-loop-nodes",
        "mkdir /tmp/dev; mknod /tmp/dev/loop-control c 10 237; mount --bind /tmp/dev /dev; "
        "cfs-mount --object-store $R --digest $D --json $T; code=$?; umount $T /dev; "
        "rm -r /tmp/dev; exit $code",
        stdout='"loop": false',
    ),
    Case(
        "signatures-are-required",
        # The kernel looks when it reads what it knows of a file, which has to be forgotten first.
        "knob=/proc/sys/fs/verity/require_signatures; echo 1 >$knob || exit 9; "
        "for i in $(seq 30); do echo 3 >/proc/sys/vm/drop_caches; "
        "head -c 1 $R/images/$D >/dev/null 2>&1 || break; sleep 1; done; "
        "cfs-mount --object-store $R --digest $D $T; code=$?; echo 0 >$knob; exit $code",
        code=32,
        stderr=refusal(
            "open",
            ".*",
            r"sealed without a signature of the kernel's: Operation not permitted \(EPERM\)",
            "0 in /proc/sys/fs/verity/require_signatures: the digest is what is checked here",
        ),
    ),
]

CASES = [*AGAIN, *REMOUNT, *OPTIONS, *PLACES]
