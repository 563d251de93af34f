# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Rows 1 to 20: the image, and the way to it."""

from tests.vm.kernels import MOUNTS

from .rows import Errors, Mounts, Outcome, Refused, Row, hostile_image
from .stores import CANARY, PROGRAM

_IMAGE = "{S}/images/{D}"
_OBJECT = "{S}/objects/{D/}"
_SHA256 = "sha256:{D}"
_ABSENT = r"No such file or directory \(ENOENT\)"
_FORM = r"64 \(sha256\) or 128 \(sha512\) lower-case hex digits"
_REGULAR = "a regular file"
_NO_VERITY = "this kernel or file system has no fs-verity: "
_CHARACTER = "a character that is not a lower-case hex digit .*"


def _measured(found: str, path: str = _IMAGE) -> Refused:
    return Refused("measure", path, found, _SHA256)


def _open(found: str, path: str = _IMAGE) -> Refused:
    return Refused("open", path, found, _REGULAR)


def _no_erofs(found: str) -> Refused:
    return Refused("erofs", "{S}/images/.*", found, "an EROFS image")


def _digest(variant: str, number: int, shell: str, found: str) -> Row:
    return Row(
        number,
        variant,
        f"digest {variant}",
        Refused("usage", "--digest", found, _FORM, code=1),
        prepare=f"DIGEST={shell}",
    )


def _special(variant: str, shell: str, found: str = "not a regular file: .*") -> Row:
    return Row(11, variant, f"image is a {variant}", _open(found), prepare=f'remove "$D"; {shell}')


def _tampered(variant: str, title: str, outcome: Outcome) -> Row:
    return Row(
        16,
        variant,
        title,
        outcome,
        prepare=f"S=/tampered/{variant}/repo STORE=/tampered/{variant}/repo",
        limit=30,
    )


ROWS = (
    Row(0, "right", "nothing is wrong", Mounts()),
    hostile_image(
        0,
        "right-erofs-utils",
        "an image of mkfs.erofs",
        Mounts(),
        "good",
    ),
    hostile_image(
        0,
        "right-format-2",
        "an image in composefs-rs' first format",
        Mounts(),
        "format-2",
    ),
    Row(
        1,
        "other-image",
        "image replaced by other content with verity",
        _measured("sha256:{OTHER}"),
        prepare='replace "$D" /disk/other.cfs; verity-enable "$(object "$D")"',
    ),
    Row(
        1,
        "other-format",
        "image replaced by the same root in another format, with verity",
        _measured("sha256:{FORMAT_2}"),
        prepare='replace "$D" /disk/hostile/format-2; verity-enable "$(object "$D")"',
    ),
    Row(
        2,
        "no-verity",
        "image without verity",
        _measured(r"no fs-verity on this file \(ENODATA\)"),
        prepare='replace "$D" /disk/image.cfs',
    ),
    Row(
        3,
        "tmpfs",
        "file system without fs-verity",
        _measured(_NO_VERITY + ".*"),
        prepare='mv "$S" "$S.away"; mkdir "$S"; mount -t tmpfs tmpfs "$S"; cp -a "$S.away/." "$S"',
        clean='umount "$S"',
    ),
    Row(
        3,
        "kernel",
        "kernel without fs-verity (strace answers)",
        Refused("measure", _IMAGE, _NO_VERITY + r".*\(ENOTTY\)", _SHA256),
        command='inject ioctl:error=ENOTTY cfs-mount --object-store "$S" --digest "$D" "$T"',
    ),
    Row(
        4,
        "algorithm",
        "image sealed with SHA-512 under a SHA-256 name",
        _measured("sha512:{E}"),
        prepare='replace "$D" /disk/image.cfs; verity-enable --hash sha512 "$(object "$D")"',
    ),
    Row(
        4,
        "block-size",
        "image sealed with another block size",
        _measured("sha256:[0-9a-f]{64}"),
        prepare='replace "$D" /disk/image.cfs;'
        'verity-enable --block-size 1024 "$(object "$D")" || exit 90',
        kernels=MOUNTS,
    ),
    Row(
        4,
        "salt",
        "image sealed with a salt",
        _measured("sha256:[0-9a-f]{64}"),
        prepare='replace "$D" /disk/image.cfs; verity-enable --salt 00ff "$(object "$D")"',
    ),
    Row(6, "sha512", "SHA-512 image", Mounts(), prepare="DIGEST=$E"),
    _digest("empty", 7, "", "an empty digest"),
    _digest("cut", 7, '"${D%??}"', "a digest of the wrong length .*"),
    _digest("odd", 7, '"${D%?}"', "a digest of the wrong length .*"),
    _digest("upper-case", 7, '"$(echo "$D" | tr a-f A-F)"', _CHARACTER),
    _digest("spaces", 7, '" ${D#?}"', _CHARACTER),
    _digest("newline", 7, '"$D\n"', "a digest of the wrong length .*"),
    _digest("slash", 8, '"${D%${D#??}}/${D#???}"', _CHARACTER),
    _digest("dots", 8, '"../objects/${D%${D#??}}/${D#??}"', "a digest of the wrong length .*"),
    _digest("dots-of-right-length", 8, '"../${D#???}"', _CHARACTER),
    Row(
        9,
        "absent",
        "image absent, an alias and a ref of its name planted",
        Refused("open", _OBJECT, _ABSENT, "image sha256:{D}"),
        prepare='mv "$(object "$D")" "$S/kept"; rm "$S/images/$D";'
        'mkdir "$S/images/refs" "$S/refs";'
        'for name in images/refs/"$D" images/refs/main refs/"$D" "$D"; do'
        ' ln "$S/kept" "$S/$name"; done',
    ),
    Row(
        10,
        "inside",
        "image is a relative link inside the store",
        Mounts(),
        prepare='mkdir "$S/kept"; mv "$(object "$D")" "$S/kept/image";'
        'ln -s ../../kept/image "$(object "$D")"',
    ),
    Row(
        10,
        "outside",
        "image is a relative link that leads outside",
        _open(".*EXDEV.*"),
        prepare='ln "$(object "$D")" "$S.outside"; rm "$S/images/$D";'
        'ln -s "../../${S##*/}.outside" "$S/images/$D"',
    ),
    Row(
        10,
        "absolute",
        "image is an absolute link",
        _open(".*EXDEV.*"),
        prepare='rm "$S/images/$D"; ln -s "$(object "$D")" "$S/images/$D"',
    ),
    Row(
        10,
        "magic",
        "image is a magic link",
        _open(r".*\(E(LOOP|XDEV)\)"),
        prepare='exec 5<"$(object "$D")"; rm "$S/images/$D"; ln -s /proc/self/fd/5 "$S/images/$D"',
        clean="exec 5<&-",
    ),
    _special("fifo", 'mkfifo "$PLACE"'),
    _special("socket", 'mksocket "$PLACE"'),
    _special("character-device", 'mknod "$PLACE" c 1 5'),
    _special("terminal", 'mknod "$PLACE" c 4 64'),
    _special("block-device", 'mknod "$PLACE" b 254 0'),
    _special("device-without-driver", 'mknod "$PLACE" c 60 60'),
    _special("directory", 'mkdir "$PLACE"'),
    Row(12, "dangling", "dangling link", _open("a dangling link: .*"), prepare='remove "$D"'),
    Row(
        12,
        "loop",
        "link loop",
        _open("a link loop, .*"),
        prepare='remove "$D"; ln -s "../../images/$D" "$PLACE"',
    ),
    Row(
        12,
        "parent-images",
        "link as parent directory: images",
        _open("a link loop, or a link .*"),
        prepare='mv "$S/images" "$S/kept"; ln -s kept "$S/images"',
    ),
    Row(
        12,
        "parent-objects",
        "link as parent directory: the objects",
        Refused("store", "{S}", r".*\(ELOOP\)", "an object store"),
        prepare='mv "$S/objects" "$S/kept"; ln -s kept "$S/objects"',
    ),
    Row(
        12,
        "parent-fan-out",
        "link as parent directory: of the object",
        _open("a link loop, or a link .*", _OBJECT),
        prepare='rm "$S/images/$D"; O=$(dirname "$(object "$D")"); mv "$O" "$S/kept";'
        'ln -s ../kept "$O"',
    ),
    Row(
        13,
        "hard-link",
        "image hard-linked elsewhere",
        Mounts(),
        prepare='ln "$(object "$D")" /disk/rows/elsewhere',
        clean="rm /disk/rows/elsewhere",
    ),
    Row(
        15,
        "deleted",
        "image deleted after the mount",
        Mounts(),
        after='rm "$(object "$D")" "$S/images/$D"; echo 3 >/proc/sys/vm/drop_caches',
    ),
    _tampered(
        "superblock",
        "first block of the image changed on the raw disk",
        Refused("erofs", "{S}/images/{D}", r".*\(EIO\)", ".*"),
    ),
    _tampered(
        "canary",
        "data of the canary's object changed",
        Refused("check", "/mnt/target/" + CANARY, r".*\(EIO\).*", "readable to its end"),
    ),
    _tampered("program", "data of another object changed", Errors({PROGRAM: "EIO"})),
    hostile_image(
        17,
        "empty",
        "image empty",
        _no_erofs("too short for an EROFS superblock"),
    ),
    hostile_image(
        17,
        "short",
        "image ends behind the superblock",
        Refused(
            "check",
            "{S}/images/.*",
            r"a directory larger than the image \(EBADMSG\)",
            "an image that can be searched",
            # 7.3: EROFS reads the whole first block
            or_else=Refused("erofs", "{S}/images/.*", r".*\(EIO\)"),
        ),
    ),
    Row(
        17,
        "huge",
        "a sparse terabyte without verity",
        _measured(r"no fs-verity on this file \(ENODATA\)"),
        prepare='remove "$D"; truncate -s 1000G "$PLACE" || exit 90; ulimit -v 131072',
    ),
    Row(
        17,
        "sparse",
        "16 sparse megabytes with verity",
        _no_erofs("no EROFS superblock"),
        prepare="truncate -s 16M /tmp/sparse; adopt /tmp/sparse; rm /tmp/sparse; ulimit -v 131072",
    ),
    hostile_image(17, "longer", "zeros behind the image", Mounts(), "tail"),
    Row(
        18,
        "cut",
        "image cut",
        _measured("sha256:[0-9a-f]{64}"),
        prepare='replace "$D" /disk/hostile/cut; verity-enable "$(object "$D")"',
    ),
    hostile_image(
        19,
        "magic",
        "wrong magic, with a fitting digest",
        _no_erofs("no EROFS superblock"),
    ),
    hostile_image(
        19,
        "version",
        "composefs header of an unknown version, with a fitting digest",
        _no_erofs("a composefs header of an unknown version"),
    ),
    Row(
        20,
        "loop",
        "EROFS cannot be mounted from a file (strace answers): loop device",
        Mounts(),
        command='inject fsconfig:error=ENOTBLK:when="$(number_of FSCONFIG_CMD_CREATE)"'
        ' cfs-mount --object-store "$S" --digest "$D" -v "$T"',
    ),
)
