# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A UKI that `cfs-uki seal` sealed and that is signed, under Secure Boot, with nothing but cfs-init
in its initrd: it boots its root, and no other.

What firmware is: test_uefi.py. The same under a distribution's initrd: test_beside_uki.py.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.demo.command import product

from .guest import COMMAND_LINE, Console, Disk, Firmware, boot, sign
from .initrd import CONFIG, boot_initrd, configuration
from .product import cfs_init
from .repository import object_path
from .rootdisk import RootDisk
from .store import sealed_disk
from .toolbox import Toolbox
from .uki import BOOT_PATH, boot_disk, build_uki

pytestmark = [pytest.mark.vm, pytest.mark.all_only]

ESP = "5ea1ed00-0000-4000-8000-000000000001"
ROOT = "5ea1ed00-0000-4000-8000-000000000002"
LIMIT = 240
MISSING = "0" * 64
REFUSED_BY_FIRMWARE = "Access Denied|Security Violation"


@pytest.fixture(scope="module")
def ukis(
    toolbox: Toolbox, rootdisk: RootDisk, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Signed; by the digest that each was sealed with, those of the disk by name."""
    directory = tmp_path_factory.mktemp("ukis")
    kernel = toolbox.kernel("stable")
    plain = build_uki(
        toolbox,
        kernel,
        directory / "plain.efi",
        initrd=boot_initrd(kernel, cfs_init(), files={CONFIG: configuration()}),
        cmdline=f"{COMMAND_LINE} root=PARTUUID={ROOT}",
    )
    made = {}
    for name in ("whole", "format-2", MISSING):
        digest = rootdisk.digests.get(name, MISSING)
        sealed = directory / f"{name}.sealed.efi"
        product("cfs-uki", "seal", "--digest", digest, str(plain), "-o", str(sealed))
        made[name] = sign(toolbox, sealed, directory / f"{name}.efi")
    return made


def start(
    toolbox: Toolbox, directory: Path, uki: Path, root: Path, until: str | None = None
) -> Console:
    disk = directory / "disk"
    boot_disk(toolbox, disk, uki, root, esp_partuuid=ESP, root_partuuid=ROOT)
    console = boot(
        toolbox,
        disks=[Disk(disk, discard_writes=True)],
        firmware=Firmware(secure_boot=True),
        limit=LIMIT,
        until=until,
    )
    disk.unlink()
    return console


def refusal(console: Console) -> str:
    """What init said, once."""
    assert not console.timed_out, console.tail
    text = console.text.replace("\r", "")
    assert "root-init" not in text, console.tail
    found = re.findall(r"^\[ *[0-9.]+\] cfs-init: (refused: .*)$", text, re.MULTILINE)
    assert len(found) == 1, console.tail
    return str(found[0])


@pytest.mark.parametrize("name", ["whole", "format-2"])
def test_it_boots_its_root(
    toolbox: Toolbox, rootdisk: RootDisk, ukis: Mapping[str, Path], tmp_path: Path, name: str
) -> None:
    """Its section is the carried digest's equal, read by the confined reader."""
    console = start(toolbox, tmp_path, ukis[name], rootdisk.disk("ext4"))
    assert not console.timed_out, console.tail
    text = console.text.replace("\r", "")
    [record] = re.findall(r"^/run/cfs/root.json: (.*)$", text, re.MULTILINE)
    found = json.loads(record)
    assert found["digest"] == f"sha256:{rootdisk.digests[name]}"
    assert (found["level"], found["verity"]) == ("carried", "require")
    assert found["secure_boot"] == "on"
    assert found["uki"] == f"unproved, equal: /dev/vda1:/{BOOT_PATH}"
    assert re.search(r"^root-init: done$", text, re.MULTILINE), console.tail


@pytest.mark.parametrize(("name", "put"), [("whole", "no-var"), ("format-2", "whole")])
def test_a_changed_image_is_refused(
    toolbox: Toolbox,
    rootdisk: RootDisk,
    ukis: Mapping[str, Path],
    tmp_path: Path,
    name: str,
    put: str,
) -> None:
    """Another image, sealed too, under the name of the one that the UKI names. Of the same root in
    another format too."""
    whole, other = rootdisk.digests[name], rootdisk.digests[put]
    tree = Path(shutil.copytree(rootdisk.tree, tmp_path / "tree", symlinks=True))
    store = tree / "composefs"
    shutil.copyfile(store / object_path(other), store / object_path(whole))
    root = sealed_disk(toolbox, tree, rootdisk.seal)
    refused = refusal(start(toolbox, tmp_path, ukis[name], root))
    assert re.fullmatch(
        rf"refused: measure: \S*{whole}: sha256:{other}, expected sha256:{whole}", refused
    ), refused


def test_a_digest_that_the_store_does_not_have_is_refused(
    toolbox: Toolbox, rootdisk: RootDisk, ukis: Mapping[str, Path], tmp_path: Path
) -> None:
    refused = refusal(start(toolbox, tmp_path, ukis[MISSING], rootdisk.disk("ext4")))
    assert refused.startswith("refused: open: "), refused
    assert f"image sha256:{MISSING}" in refused


def test_firmware_refuses_another_digest_in_a_signed_uki(
    toolbox: Toolbox, rootdisk: RootDisk, ukis: Mapping[str, Path], tmp_path: Path
) -> None:
    """Of an image that the store has, everywhere where the UKI has its own."""
    whole, other = (rootdisk.digests[name].encode() for name in ("whole", "no-var"))
    content = ukis["whole"].read_bytes()
    assert content.count(whole) >= 2  # the section, and the file in the initrd
    changed = tmp_path / "changed.efi"
    changed.write_bytes(content.replace(whole, other))
    until = f"{REFUSED_BY_FIRMWARE}|root-init"
    console = start(toolbox, tmp_path, changed, rootdisk.disk("ext4"), until)
    assert re.search(REFUSED_BY_FIRMWARE, console.text), console.tail
    assert "root-init" not in console.text
