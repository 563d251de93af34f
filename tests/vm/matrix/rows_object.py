# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Rows 21 to 29: the objects, and what the kernel does not have."""

from tests.vm.kernels import REFUSES, ROLES

from .rows import Errors, Mounts, Outcome, Refused, Row, hostile_image
from .stores import CANARY, PROGRAM

_NO_FILE = "ENOENT"
_FEATURE = r"kernel .* has no {}: No such device \(ENODEV\)"
_OURS = 'cfs-mount --object-store "$S" --digest "$DIGEST" "$T"'
# No module is loaded on demand, and this one is not there.
_WITHOUT = "echo /bin/false >/proc/sys/kernel/modprobe; rmmod {0} || exit 90;"
_AGAIN = "echo /usr/bin/modprobe >/proc/sys/kernel/modprobe; modprobe {0}"


def _hostile(number: int, variant: str, title: str, errno: str = "EIO") -> Row:
    return hostile_image(number, variant, title, Errors({PROGRAM: errno}))


def _object(number: int, variant: str, title: str, shell: str, errno: str) -> Row:
    return Row(
        number, variant, title, Errors({PROGRAM: errno}), prepare=f'remove "$PROGRAM"; {shell}'
    )


def _canary(variant: str, title: str, shell: str, found: str) -> Row:
    outcome: Outcome = Refused("check", f"/mnt/target/{CANARY}", found, "readable to its end")
    return Row(23, f"canary-{variant}", title, outcome, prepare=f'remove "$CANARY"; {shell}')


ROWS = (
    _hostile(21, "climbs", "redirect /../x", "EXDEV|EIO|ENOENT"),
    _hostile(21, "climbs-in-the-middle", "redirect /aa/../../x", "EXDEV|EIO|ENOENT"),
    _hostile(21, "relative", "relative redirect", "EXDEV|EIO|ENOENT|EINVAL"),
    hostile_image(
        21,
        "climbs-canary",
        "redirect /../x of the canary",
        Refused("check", f"/mnt/target/{CANARY}", ".*", "readable to its end"),
    ),
    _object(
        22,
        "link",
        "object is a symlink to the right content",
        "cp /disk/expected/" + PROGRAM + ' "$S/kept"; verity-enable "$S/kept";'
        'ln -s ../../kept "$PLACE"',
        _NO_FILE,
    ),
    _object(22, "fifo", "object is a FIFO", 'mkfifo "$PLACE"', _NO_FILE),
    _object(22, "device", "object is a device", 'mknod "$PLACE" c 1 5', _NO_FILE),
    _object(22, "directory", "object is a directory", 'mkdir "$PLACE"', "ENOENT|EIO|EISDIR"),
    _object(22, "socket", "object is a socket", 'mksocket "$PLACE"', _NO_FILE),
    _object(23, "missing", "object missing", ":", _NO_FILE),
    _object(
        23,
        "other-content",
        "object with other content, sealed",
        "cp /disk/expected/" + CANARY + ' "$PLACE"; verity-enable "$PLACE"',
        "EIO",
    ),
    _object(
        23,
        "no-verity",
        "object without verity",
        "cp /disk/expected/" + PROGRAM + ' "$PLACE"',
        "EIO",
    ),
    _object(
        23,
        "other-algorithm",
        "object sealed with another algorithm",
        "cp /disk/expected/" + PROGRAM + ' "$PLACE"; verity-enable --hash sha512 "$PLACE"',
        "EIO",
    ),
    _object(
        23,
        "salt",
        "object sealed with a salt",
        "cp /disk/expected/" + PROGRAM + ' "$PLACE"; verity-enable --salt 00 "$PLACE"',
        "EIO",
    ),
    _object(
        23,
        "longer",
        "object that is longer, sealed",
        "cat /disk/expected/" + PROGRAM + " /disk/expected/" + CANARY + ' >"$PLACE";'
        'verity-enable "$PLACE"',
        "EIO",
    ),
    _canary("missing", "the canary's object missing", ":", r"No such file .*\(ENOENT\)"),
    _canary(
        "no-verity",
        "the canary's object without verity",
        "cp /disk/expected/" + CANARY + ' "$PLACE"',
        r".*\(EIO\).*",
    ),
    _canary(
        "other-content",
        "the canary's object with other content",
        "cp /disk/expected/" + PROGRAM + ' "$PLACE"; verity-enable "$PLACE"',
        r".*\(EIO\).*",
    ),
    Row(
        23,
        "no-objects",
        "objects of another system only",
        Refused("check", f"/mnt/target/{CANARY}", r".*\(ENOENT\)", "readable to its end"),
        prepare='for object in "$CANARY" "$PROGRAM" "$DATA"; do remove "$object"; done',
    ),
    _hostile(24, "no-digest", "metacopy without digest"),
    _hostile(24, "bad-version", "metacopy of another version"),
    _hostile(24, "bad-length", "metacopy of another length"),
    _hostile(24, "bad-algorithm", "metacopy with an unknown algorithm"),
    _hostile(24, "other-algorithm", "metacopy with the other algorithm"),
    hostile_image(
        24,
        "bad-flags",
        "metacopy with flags, which the kernel does not know",
        Mounts(),
    ),
    Row(
        27,
        "never",
        "objects are never a layer of their own",
        Mounts(),
        after='cd "$T" && for name in ??; do [ ! -e "$name" ] || echo "left $name"; done; cd /',
    ),
    Row(
        27,
        "old-kernel",
        "and no spelling is tried that would make them one",
        Refused("overlay", "/mnt/target", ".*", ".*Linux 6.6.*"),
        command="strace -qq -s 200 -o /tmp/trace -e trace=fsconfig " + _OURS + "; code=$?;"
        'grep -E \'"lowerdir", "[^:"]*(:[^:][^"]*)?"\' /tmp/trace && code=91;'
        "(exit $code)",
        kernels=(REFUSES,),
    ),
    Row(
        28,
        "lost",
        "the kernel forgets verity=require (strace swallows it)",
        Refused("check", "/mnt/target", "mount options .*", "verity=require among them"),
        command='inject fsconfig:retval=0:when="$(number_of \'"verity"\')" ' + _OURS,
    ),
    Row(
        29,
        "no-verity-require",
        "kernel before verity=require",
        Refused(
            "overlay",
            "/mnt/target",
            r".* by kernel \d.*",
            r"an overlayfs with verity=require and data-only layers \(Linux 6.6\)",
        ),
        kernels=(REFUSES,),
    ),
    Row(
        29,
        "no-overlay",
        "no overlayfs",
        Refused(
            "overlay",
            "/mnt/target",
            _FEATURE.format("overlay"),
            "CONFIG_OVERLAY_FS or module overlay",
        ),
        prepare=_WITHOUT.format("overlay"),
        clean=_AGAIN.format("overlay"),
    ),
    Row(
        29,
        "no-erofs",
        "no EROFS",
        Refused(
            "erofs", "{S}/images/{D}", _FEATURE.format("erofs"), "CONFIG_EROFS_FS or module erofs"
        ),
        prepare=_WITHOUT.format("erofs"),
        clean=_AGAIN.format("erofs"),
        kernels=ROLES,
    ),
    Row(
        29,
        "no-loop",
        "EROFS needs a loop device, and there is none",
        Refused("erofs", "{S}/images/{D}", ".* from a loop device only, and has none: .*"),
        prepare=_WITHOUT.format("loop"),
        clean=_AGAIN.format("loop"),
        kernels=(REFUSES,),
    ),
)
