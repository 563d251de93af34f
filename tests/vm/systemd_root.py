# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A real root, Debian 13 with systemd, in a sealed store: for what an initrd does for systemd.

Two images of it: "first" and "second", which is their host name. They have no kernel modules:
what a boot needs comes with the initrd. What to do once they are up comes on a second disk.
Beside the store the disk has the whole tree as plain files, and what else initrds of others might
take for the root's: see bait.py.
"""

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from tests.demo.image import Image, build_image, forge_image
from tests.demo.root import MASKED, build_root

from . import bait, extension_disk
from .disks import MIB
from .extension_disk import add_extensions
from .guest import Console, Disk, boot
from .initrd import BOOT_MODULES, CONFIG, boot_initrd, configuration
from .once import BUILD, STAMP, made_once
from .product import cfs_init
from .repository import REPOSITORY_FORMAT, add_image, make_repository
from .rootdisk import CARRIED
from .store import sealed_disk
from .toolbox import Toolbox

EXTENSIONS = ("debug", "site", "old")
PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "util-linux", "kmod")
# Its file system is a module, and the image has none.
WITHOUT_MODULES = (*MASKED, "proc-sys-fs-binfmt_misc.automount")
AGENT = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
udevadm wait --timeout=600 /dev/virtio-ports/results
exec >/dev/virtio-ports/results 2>&1
mkdir -p /run/test
# The second disk is a tar archive.
tar -x -f /dev/vdb -C /run/test && . /run/test/script
systemctl --no-block poweroff
"""
SERVICE = """[Unit]
Description=The test
[Service]
# simple: the boot is complete while this waits for its completion
Type=simple
ExecStart=/usr/libexec/test-agent
"""
SEAL = """
set -e
find composefs/objects -type f | xargs -n 500 verity-enable
mkdir -p state
"""


@dataclass(frozen=True)
class SystemdRoot:
    """The images, and a disk with their store and the empty directory /state."""

    first: Image
    second: Image
    extensions: dict[str, str]
    """Digests of images of extension_disk.FILES in the same store, by their names."""
    objects: Path
    """Of both, by their names."""
    disk: Path
    """A file system without a partition table. Boot overlays of it."""

    def carried(self, *images: Image, **extensions: str) -> bytes:
        """The carried file for these images, and extensions: `sysext_debug="debug"`."""
        named = {
            key.replace("_", "."): Digest.parse(self.extensions[name], "a test")
            for key, name in extensions.items()
        }
        roots = [Digest.parse(image.digest, "a test") for image in images]
        return payload_write.write(roots, named)


def make_systemd_root(toolbox: Toolbox) -> SystemdRoot:
    """Build (or find) it. Needs root."""
    place = BUILD / "vm-cache" / "systemd-root"
    place.mkdir(parents=True, exist_ok=True)
    tree = build_root(
        place / "root", PACKAGES, masked=WITHOUT_MODULES,
        files={
            "usr/libexec/test-agent": (0o755, AGENT),
            "usr/lib/systemd/system/test-agent.service": (0o644, SERVICE),
            "etc/hostname": (0o644, "first\n"),
        },
        enabled=["test-agent.service"],
    )  # fmt: skip
    stamp = (tree.parent / STAMP).read_text()
    first, objects = build_image(place / "image", tree, stamp)
    second = forge_image(place / "second", first, "/etc/hostname", "second\n")

    def make(directory: Path) -> None:
        subprocess.run(["cp", "-a", tree, directory / "tree"], check=True, timeout=600)
        bait.fill(directory / "tree", usr_link=False)
        store = make_repository(directory / "tree" / "composefs")
        digests = add_extensions(store, directory / "extensions", EXTENSIONS)
        (directory / "extensions.json").write_text(json.dumps(digests))
        shutil.copytree(objects, store / "objects", dirs_exist_ok=True)
        for image in (first, second):
            add_image(store, image.file, image.digest)
        size = sum(path.lstat().st_size + 8192 for path in (directory / "tree").rglob("*"))
        disk = sealed_disk(
            toolbox, directory / "tree", SEAL, size=rounded(size * 5 // 4 + 96 * MIB)
        )
        shutil.rmtree(directory / "tree")
        # Relative: the folder of a checkout may be moved, or be a link to another one's.
        (directory / "disk").symlink_to(os.path.relpath(disk, directory))

    key = repr(
        (
            first.digest,
            second.digest,
            SEAL,
            REPOSITORY_FORMAT,
            Path(bait.__file__).read_bytes(),
            Path(extension_disk.__file__).read_bytes(),
        )
    )
    sealed = made_once(place / "sealed", key, make)
    extensions = json.loads((sealed / "extensions.json").read_text())
    return SystemdRoot(first, second, extensions, objects, (sealed / "disk").resolve())


def boot_root(
    toolbox: Toolbox, root: SystemdRoot, work: Path, role: str, script: str, *,
    settings: Mapping[str, str], carried: bytes, append: str, limit: float,
) -> Console:  # fmt: skip
    """The root, by our program as /init with these settings and that carried file; `script` is run
    once it is up."""
    kernel = toolbox.kernel(role)
    initrd = boot_initrd(
        kernel, cfs_init(), modules=BOOT_MODULES,
        files={CONFIG: configuration(**settings), CARRIED: carried},
    )  # fmt: skip
    archive = script_disk(work / "script.tar", script)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=initrd, append=append, memory=1024, limit=limit,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=work / "console.log",
    )  # fmt: skip
    assert not console.timed_out, console.tail
    return console


# For a script: what `systemd-nspawn --volatile=overlay` mounts. It says what was written in it.
VOLATILE = """
mkdir -p /run/volatile
mount -t tmpfs volatile /run/volatile
mkdir /run/volatile/upper /run/volatile/work /run/volatile/root
mount -t overlay volatile /run/volatile/root \\
    -o lowerdir=/,upperdir=/run/volatile/upper,workdir=/run/volatile/work
chroot /run/volatile/root /bin/sh -c 'echo written >/var/volatile'
echo "volatile: $? $(cat /run/volatile/upper/var/volatile)"
umount /run/volatile/root
"""


def script_disk(path: Path, script: str, files: Mapping[str, Path] | None = None) -> Path:
    """A disk to be /dev/vdb: /bin/sh sources `script`; `files` are executables in /run/test."""
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("script")
        entry.size = len(script.encode())
        archive.addfile(entry, io.BytesIO(script.encode()))
        for name, source in (files or {}).items():
            archive.add(source, name)
    return path


def rounded(size: int) -> int:
    return size - size % MIB
