# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is made on the disk gets nothing of what lies above it, which somebody may have prepared.

On ext4 with projects and encryption. Casefold is not tried here. The sources of overlayfs in 6.12
seem to refuse objects on a disk that has it; nobody has booted one.
"""

import struct
from collections.abc import Iterator

from .case import Setup, case, refused

USER = 1000
# SYNC, NODUMP, NOATIME, JOURNAL_DATA, DIRSYNC, PROJINHERIT: all that ext4 hands on, and lets be set
_FLAGS = 0x8 | 0x40 | 0x80 | 0x4000 | 0x10000 | 0x20000000


def _default_acl() -> str:
    """u::rwx,u:1000:rwx,g::rwx,m::rwx,o::rwx, as <linux/posix_acl_xattr.h> has it."""
    nobody = 0xFFFFFFFF
    entries = ((1, nobody), (2, USER), (4, nobody), (0x10, nobody), (0x20, nobody))
    packed = b"".join(struct.pack("<HHI", tag, 7, who) for tag, who in entries)
    return "0x" + (struct.pack("<I", 2) + packed).hex()


_PLANT = f"""
plant() {{
    chown {USER}:{USER} $1 && chmod 2777 $1 &&
    setxattr $1 system.posix_acl_default {_default_acl()} && fileattr $1 {_FLAGS:#x} 4242
}}
of() {{ for path; do
    stat -c '%a %u %g' $path
    fileattr $path
    for kind in default access; do getxattr $path system.posix_acl_$kind 2>&1 || :; done
done; }}
"""
_NONE = (
    r"flags 0x80000 project 0\n"
    r"getxattr: No data available\n"
    r"getxattr: No data available\n"
)
_VAR, _ETC, _PARENT = rf"755 7 8\n{_NONE}", rf"751 3 4\n{_NONE}", rf"755 0 0\n{_NONE}"


def inherited() -> Iterator[Setup]:
    parent = "/disk/state/{}"
    # The positive control is what the plant does to a directory that is made by somebody else.
    yield case(
        "inherited-transient",
        _PLANT + "mkdir -p $Q/var.transient && plant $Q/var.transient && "
        "mkdir $Q/var.transient/x && fileattr $Q/var.transient/x && up && settled && "
        "of $S/sysroot/${Q#/disk/}/var.transient $S/var && "
        "mkdir $S/var/lib && of $S/var/lib && touch $S/var/file && "
        f"! setpriv8 --reuid {USER} --regid {USER} --clear-groups touch $S/var/lib/x 2>/dev/null",
        var="transient-disk",
        stdout=rf"\Aflags 0x[0-9a-f]+ project 4242\n{_PARENT}{_VAR}{_PARENT}\Z",
    )
    for name, mode, below in (("bind", "bind", ""), ("overlay", "overlay", "/upper")):
        place = parent.format(f"inherited-{name}")
        yield case(
            f"inherited-{name}",
            _PLANT
            + f"mkdir -p {place} && plant {place} && up && down && of $Q $Q/etc{below}"
            + (" $Q/etc/sub $Q/etc/hostname" if mode == "bind" else " $Q/etc"),
            etc=mode,
            stdout=rf"\A{_PARENT}{_ETC}"
            + (rf"700 0 0\n{_NONE}644 0 0\n{_NONE}\Z" if mode == "bind" else rf"{_ETC}\Z"),
        )
    yield case(
        "inherited-encryption",
        "mkdir -p $Q && fileattr $Q encrypt && up",
        etc="bind",
        code=32,
        stderr=refused("inherited-encryption", "/etc", r"Required key not available \(ENOKEY\)"),
    )


def leftovers() -> Iterator[Setup]:
    """What earlier boots left goes, and what does not go does not stop this one."""
    yield case(
        "leftovers",
        "T=$Q/var.transient; mkdir -p $T/one/sub $T/two $T/three/$(seq -s / 80) && "
        "ln -s /disk/repo $T/one/link && ln -s /disk/repo $T/link && "
        "(cd $T/two && seq 200 | xargs touch) && touch $T/one/sub/stays $T/one/goes && "
        "fileattr $T/one/sub/stays 0x10 0 && up && settled && down && "
        "ls $T && find $T/one && ls /disk/repo; code=$?; "
        "dmesg | grep -o 'warning: .* stays: .*'; fileattr $T/one/sub/stays 0 0; (exit $code)",
        var="transient-disk",
        stdout=r"\A[0-9a-f-]{36}\none\n/\S+/one\n/\S+/one/sub\n/\S+/one/sub/stays\n"
        r"(.*\n)*meta.json\n(.*\n)*"
        r"warning: one of an earlier boot stays: Operation not permitted \(EPERM\)\n\Z",
    )
