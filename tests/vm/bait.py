# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a bare disk may have that initrds of others would read or execute: the boots' disks have it.

A script among it says "bait: NAME" on the console, so that a boot shows when one was executed.
"""

import tarfile
from io import BytesIO
from pathlib import Path

from .disks import BLOCK, ESP_TYPE, MIB, ROOT_TYPE, esp, ext4
from .toolbox import Toolbox

_DEVICE = "/dev/vda"
_MARK = "bait: "


def _script(name: str) -> str:
    return f"#!/bin/sh\necho '{_MARK}{name}' >/dev/console\n"


# What dracut's mount-root.sh sources, what initramfs-tools mounts, what systemd's generators,
# repart, fsck, sysusers, tmpfiles, cryptsetup, udev and ld.so look for.
FILES: dict[str, str] = {
    ".autofsck": "",
    "fsckoptions": "-y\n",
    "forcefsck": "",
    "etc/fstab": f"{_DEVICE} / ext4 rw,exec,suid,dev 0 1\n{_DEVICE} /usr ext4 ro 0 0\n"
    f"{_DEVICE} /etc ext4 ro,x-initrd.mount 0 0\n",
    "etc/sysconfig/readonly-root": _script("readonly-root") + "READONLY=yes\n",
    "etc/sysconfig/autofsck": _script("autofsck") + "AUTOFSCK_OPT=-y\n",
    "etc/initrd-release": "ID=bait\n",
    "etc/os-release": "ID=bait\n",
    "etc/machine-id": "ba170000ba170000ba170000ba170000\n",
    "etc/hostname": "bait\n",
    "etc/crypttab": f"bait {_DEVICE} none x-initrd.attach\n",
    "etc/veritytab": f"bait {_DEVICE} {_DEVICE} {'ab' * 32} x-initrd.attach\n",
    "etc/cmdline": "init=/bait\n",
    "etc/cmdline.d/bait.conf": "init=/bait\n",
    "etc/kernel/cmdline": "init=/bait\n",
    "etc/ld.so.preload": "/bait.so\n",
    "etc/modprobe.d/bait.conf": "install overlay /bait\n",
    "etc/udev/rules.d/00-bait.rules": 'RUN+="/bait"\n',
    "etc/sysctl.d/bait.conf": "kernel.modprobe=/bait\n",
    "etc/systemd/system.conf": "[Manager]\nManagerEnvironment=BAIT=1\n",
    "etc/systemd/system/cfs-setup-root.service": "[Service]\nExecStart=/bait\n",
    "etc/systemd/system/sysroot.mount.d/bait.conf": "[Mount]\nOptions=rw\n",
    "etc/systemd/system-generators/bait": _script("system-generator"),
    "etc/repart.d/50-bait.conf": "[Partition]\nType=home\nFormat=ext4\n",
    "etc/tmpfiles.d/bait.conf": "f /bait\n",
    "etc/dracut.conf.d/bait.conf": 'hostonly="yes"\n',
    "etc/conf.d/bait": _script("conf.d"),
    "lib/firmware/bait": "",
    "sbin/init": _script("init"),
    "bin/sh": _script("sh"),
    "bait": _script("bait"),
}
# Only where no link stands at usr.
USR: dict[str, str] = {
    "usr/lib/repart.d/50-bait.conf": "[Partition]\nType=srv\nFormat=ext4\n",
    "usr/lib/systemd/system-generators/bait": _script("system-generator of usr"),
    "usr/lib/os-release": "ID=bait\n",
    "usr/lib/modprobe.d/bait.conf": "install erofs /bait\n",
    "usr/sbin/init": _script("init of usr"),
}
EXECUTABLE = 0o755
KEY = "ssh-ed25519 AAAA of somebody else\n"

# The Discoverable Partitions Specification: whoever believes a type mounts it there.
_XBOOTLDR = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
_SWAP = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
_TREES = {
    "home": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
    "srv": "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
    "var": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
    "tmp": "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
    "root": ROOT_TYPE,
}
_SIZE = 32 * MIB


def fill(tree: Path, *, usr_link: bool) -> None:
    """Puts it into a tree that becomes a disk, in place of what is there; links stay.

    `usr_link`: usr is a link to /usr, over which initramfs-tools would mount what etc/fstab says.
    """
    if usr_link:
        (tree / "usr").symlink_to("/usr")
    for name, text in {**FILES, **({} if usr_link else USR)}.items():
        path = tree / name
        if path.is_symlink():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(EXECUTABLE)


def archive() -> bytes:
    """All but the link, as a tar archive: for a disk that is there already."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in {**FILES, **USR}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mode = EXECUTABLE
            tar.addfile(entry, BytesIO(text.encode()))
    return buffer.getvalue()


def partitions(toolbox: Toolbox, directory: Path) -> list[tuple[str, str, Path]]:
    """For disks.partitioned(): home, srv, var, tmp and a second root, each with the key of somebody
    else; swap; a second ESP, an XBOOTLDR."""
    tree = directory / "strange"
    for name in (".ssh", "admin/.ssh", "root/.ssh"):
        (tree / name).mkdir(parents=True)
        (tree / name / "authorized_keys").write_text(KEY)
    made = [
        (kind, "R", ext4(toolbox, directory / f"strange-{name}", tree, _SIZE))
        for name, kind in _TREES.items()
    ]
    for name, kind in (("esp", ESP_TYPE), ("xbootldr", _XBOOTLDR)):
        made.append((kind, "R", esp(toolbox, directory / f"strange-{name}", {}, _SIZE)))
    return [*made, (_SWAP, "R", _swap(directory / "strange-swap"))]


def _swap(path: Path) -> Path:
    """As mkswap makes it (union swap_header of <linux/swap.h>)."""
    header = bytearray(BLOCK)
    header[1024:1032] = (1).to_bytes(4, "little") + (_SIZE // BLOCK - 1).to_bytes(4, "little")
    header[-10:] = b"SWAPSPACE2"
    path.write_bytes(bytes(header) + bytes(_SIZE - BLOCK))
    return path


def executed(console: str) -> list[str]:
    """The names of those that were executed."""
    return [line for line in console.splitlines() if line.startswith(_MARK)]
