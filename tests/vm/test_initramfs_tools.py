# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds by the initramfs-tools of Debian 13, with our package installed."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from . import machine
from .guest import Console, Disk, boot
from .once import BUILD, STAMP, made_once
from .product import cfs_init
from .rootdisk import RootDisk, make_rootdisk
from .toolbox import Toolbox

pytestmark = pytest.mark.vm

TOML = '[etc]\nmount = "transient"\n[var]\nmount = "transient"\n'
_MAKE = """
set -e
version=$(basename /usr/lib/modules/*)
cp /usr/share/cfs/setup-root-conf.toml /out/default.toml
mkinitramfs -o /out/initrd "$version"
lsinitramfs /out/initrd >/out/list
cp /boot/vmlinuz-"$version" /out/vmlinuz
"""


def initrd(files: Mapping[str, bytes]) -> Path:
    """The directory with initrd, list, vmlinuz; `files` lie in /usr/lib/composefs."""
    tree = machine.machine()

    def make(directory: Path) -> None:
        place = directory / "composefs"
        place.mkdir()
        for name, content in {"cfs-init": cfs_init().read_bytes(), **files}.items():
            (place / name).write_bytes(content)
        (place / "cfs-init").chmod(0o755)
        machine.run(tree, _MAKE, {place: "/usr/lib/composefs", directory: "/out"})

    key = repr((_MAKE, sorted(files.items()), (tree.parent / STAMP).read_text(),
                hashlib.sha256(cfs_init().read_bytes()).hexdigest()))  # fmt: skip
    name = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    return made_once(BUILD / "vm-cache" / f"initramfs-tools-{name}", key, make)


@pytest.fixture(scope="module")
def rootdisk(toolbox: Toolbox) -> RootDisk:
    return make_rootdisk(toolbox)


def start(toolbox: Toolbox, made: Path, disk: Path) -> Console:
    console = boot(
        toolbox, kernel=made / "vmlinuz", initrd=(made / "initrd").read_bytes(),
        append="root=/dev/vda rootfstype=ext4", disks=[Disk(disk, discard_writes=True)], limit=240,
    )  # fmt: skip
    assert not console.timed_out, console.tail
    return console


def test_it_boots(toolbox: Toolbox, rootdisk: RootDisk) -> None:
    made = initrd({"rootfs.digest": rootdisk.carried("whole"),
                   "setup-root-conf.toml": TOML.encode()})  # fmt: skip
    console = start(toolbox, made, rootdisk.disk("ext4"))
    digest = rootdisk.digests["whole"]
    text = console.text.replace("\r", "")
    assert re.search(rf"^cfs-setup-root: root is .*{digest}", text, re.MULTILINE), console.tail
    assert re.search(
        rf"^/proc/self/mountinfo: \d+ .* / / ro.* - overlay composefs:{digest} .*verity=require",
        text, re.MULTILINE,
    ), console.tail  # fmt: skip
    assert re.search(r"^/etc/new: writable$", text, re.MULTILINE)
    assert re.search(r"^/run/cfs/root.json: .*\"level\": \"carried\"", text, re.MULTILINE)
    assert "root-init: done" in text


def test_a_wrong_image_is_refused(toolbox: Toolbox, rootdisk: RootDisk) -> None:
    made = initrd({"rootfs.digest": rootdisk.carried("0" * 64)})
    console = start(toolbox, made, rootdisk.disk("ext4"))
    assert "cfs-setup-root: refused: open: " in console.text, console.tail
    assert "cfs-setup-root did not accept the root on this disk" in console.text
    assert "root-init" not in console.text


def test_without_a_configuration_nothing_of_it_is_in_the_initrd() -> None:
    assert "cfs-setup-root" not in (initrd({}) / "list").read_text()


def test_a_typo_stops_the_build() -> None:
    with pytest.raises(machine.MachineError, match=r"toml:2:\d+: .*mont.*mount"):
        initrd({"setup-root-conf.toml": b'[etc]\nmont = "transient"\n'})
