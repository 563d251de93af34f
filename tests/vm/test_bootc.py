# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A UKI that names its image as bootc's does, on its own command line, started by firmware.

What else a disk of bootc has is tried in state/bootc.py, where no UKI is.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from pyinit.host.config import setup_root_conf
from pyinit.initrd.source import config

from .guest import COMMAND_LINE, Console, Disk, Firmware, boot
from .initrd import CONFIG, boot_initrd
from .product import cfs_init
from .rootdisk import RootDisk
from .toolbox import Toolbox
from .uki import BOOT_PATH, boot_disk, build_addon, build_uki

pytestmark = pytest.mark.vm

ESP = "b0070c00-0000-4000-8000-000000000001"
ROOT = "b0070c00-0000-4000-8000-000000000002"
LIMIT = 360
TOML = b"""
[profile]
name = "bootc"
[failure]
action = "poweroff"
delay = 0
"""
MISSING = "0" * 128
REMOVED = "1" * 64


def partition(disk: Path, toolbox: Toolbox, digest: str, directory: Path) -> Path:
    """The root's, with the deployment of that image."""
    copy, commands, file = (directory / name for name in ("partition", "commands", "file"))
    file.write_text("deployed\n")
    paths = ("state", "state/deploy", f"state/deploy/{digest}", f"state/deploy/{digest}/etc")
    lines = [f"mkdir {path}" for path in (*paths, "state/os", "state/os/default")]
    lines.append("mkdir state/os/default/var")
    lines.append(f"symlink state/deploy/{digest}/var ../../os/default/var")
    lines.append(f"write {file} state/deploy/{digest}/etc/hostname")
    commands.write_text("\n".join(lines) + "\n")
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True, timeout=600)
    toolbox.run("debugfs", "-w", "-f", commands, copy)
    return copy


def test_several_digests_count_as_far_as_the_uki_itself_has_them(
    toolbox: Toolbox, rootdisk: RootDisk, tmp_path: Path
) -> None:
    """Of its three the first has no image, and the second boots; the third is not asked. With an
    add-on that names one more nothing boots: who removes an image would choose the next."""
    whole, other = rootdisk.digests["whole"], rootdisk.digests["no-var"]
    kernel = toolbox.kernel("stable")
    compiled = config.format(setup_root_conf.read(TOML, "a test"))
    uki = build_uki(
        toolbox, kernel, tmp_path / "uki.efi",
        initrd=boot_initrd(kernel, cfs_init(), files={CONFIG: compiled}),
        cmdline=f"{COMMAND_LINE} root=PARTUUID={ROOT} composefs.digest=v1-sha512-12:{MISSING} "
        f"composefs={whole} composefs.digest=v1-sha256-12:{other} composefs",
    )  # fmt: skip
    root = partition(rootdisk.disk("ext4"), toolbox, whole, tmp_path)

    def start(files: dict[str, Path]) -> Console:
        disk = tmp_path / "disk"
        boot_disk(toolbox, disk, uki, root, esp_partuuid=ESP, root_partuuid=ROOT, files=files)
        console = boot(
            toolbox, disks=[Disk(disk, discard_writes=True)], memory=768, limit=LIMIT,
            log=tmp_path / "log", firmware=Firmware(),
        )  # fmt: skip
        disk.unlink()
        assert not console.timed_out, console.tail
        return console

    console = start({})
    text = console.text.replace("\r", "")
    said = re.search(r"^/run/cfs/root.json: (.*)$", text, re.MULTILINE)
    assert said, console.tail
    record = json.loads(said[1])
    assert record["digest"] == f"sha256:{whole}"
    assert record["missing_candidates"] == [f"sha512:{MISSING}"]
    assert (record["source"], record["etc"], record["var"]) == ("cmdline", "bind", "bind")
    assert record["state"]["var"]["path"] == "/state/os/default/var"
    assert record["command_line"] == "unproved, in the UKI"

    addon = tmp_path / "more.addon.efi"
    build_addon(toolbox, addon, cmdline=f"composefs={REMOVED}")
    console = start({f"{BOOT_PATH}.extra.d/{addon.name}": addon})
    text = console.text.replace("\r", "")
    own = f"sha512:{MISSING} sha256:{whole} sha256:{other}"
    refused = f"cfs-init: refused: source: kernel command line: {own} sha256:{REMOVED}, "
    assert refused + f"expected {own}, as /dev/vda1:/{BOOT_PATH} has it" in text, console.tail
    assert "root.json" not in text
