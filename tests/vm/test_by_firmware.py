# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-init in a UKI that firmware starts, and then in kernels that another one starts (kexec).

It is one guest: the firmware's variables outlive each of its kernels.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import write_cpio
from pyinit.initrd.machine import superblock
from tests.demo.command import product

from .disks import MIB, ROOT_TYPE, partitioned, sparse_file
from .guest import COMMAND_LINE, Disk, Firmware, boot
from .initrd import CONFIG, boot_initrd, configuration, directory_entry, file_entry
from .product import cfs_init
from .rootdisk import CARRIED, RootDisk
from .toolbox import Toolbox
from .tools import crash_first
from .uki import boot_disk, build_uki

pytestmark = pytest.mark.vm

ESP = "f1000000-0000-4000-8000-000000000001"
ROOT = "f1000000-0000-4000-8000-000000000002"
LIMIT = 360


def partition(toolbox: Toolbox, rootdisk: RootDisk, directory: Path, words: list[str]) -> Path:
    """The root's, with what its init starts next: the same kernel, another image, these words."""
    copy, commands = directory / "partition", directory / "commands"
    kernel = toolbox.kernel("stable")
    # The image is not the one that the UKI names; without /var, so that it can be told.
    files = {CARRIED: rootdisk.carried("no-var"), CONFIG: configuration(var="none")}
    (directory / "initrd").write_bytes(boot_initrd(kernel, cfs_init(), files=files))
    lines = ["mkdir next", "cd next", f"write {kernel.vmlinuz} linux"]
    lines.append(f"write {directory / 'initrd'} initrd")
    for number, text in enumerate(words, 1):
        (directory / str(number)).write_text(f"{COMMAND_LINE} {text}\n")
        lines.append(f"write {directory / str(number)} {number}")
    subprocess.run(["cp", "--sparse=always", rootdisk.disk("ext4"), copy], check=True, timeout=600)
    commands.write_text("\n".join(lines) + "\n")
    toolbox.run("debugfs", "-w", "-f", commands, copy)
    return copy


def test_the_disk_that_was_booted_from_and_what_counts_after_kexec(
    toolbox: Toolbox, rootdisk: RootDisk, tmp_path: Path
) -> None:
    """The UKI has no `root=`: its own disk has the root, and not the one with a root partition
    beside it. It names another image than what is started after it. Both count where firmware has
    started the UKI; after kexec neither does, and nothing says which of two disks is meant."""
    clone = rootdisk.disk("ext4")
    with clone.open("rb") as file:
        [block] = superblock.read(file.read(superblock.NEEDED))
    twice = f"root=UUID={block.uuid}"
    empty = sparse_file(tmp_path / "empty", MIB)
    partitioned(toolbox, tmp_path / "beside", [(ROOT_TYPE, "R", empty)])
    settings = {CONFIG: configuration(root_discover=True)}
    kernel = toolbox.kernel("stable")
    plain, uki, disk = tmp_path / "plain.efi", tmp_path / "sealed.efi", tmp_path / "disk"
    build_uki(
        toolbox, kernel, plain, initrd=boot_initrd(kernel, cfs_init(), files=settings),
        cmdline=f"{COMMAND_LINE} then=1",
    )  # fmt: skip
    product("cfs-uki", "seal", "--digest", rootdisk.digests["whole"], str(plain), "-o", str(uki))
    root = partition(toolbox, rootdisk, tmp_path, [f"root=PARTUUID={ROOT} then=2", twice])
    boot_disk(toolbox, disk, uki, root, esp_partuuid=ESP, root_partuuid=ROOT)
    console = boot(
        toolbox,
        disks=[Disk(path, discard_writes=True) for path in (disk, clone, tmp_path / "beside")],
        memory=768, limit=LIMIT, log=tmp_path / "log", firmware=Firmware(),
    )  # fmt: skip
    disk.unlink()
    assert not console.timed_out, console.tail
    text = console.text.replace("\r", "")
    said = re.findall(r"^/run/cfs/root.json: (.*)$", text, re.MULTILINE)
    records = [json.loads(line) for line in said]
    digests = [record["digest"].removeprefix("sha256:") for record in records]
    assert digests == [rootdisk.digests[name] for name in ("whole", "no-var")], console.tail
    by_firmware, by_kexec = records

    assert by_firmware["uki"] == "unproved, equal: /dev/vda1:/EFI/BOOT/BOOTX64.EFI"
    assert by_firmware["command_line"] == "unproved, in the UKI"
    assert len(re.findall(r"/sysroot .* /dev/vda2 ", text)) == 2

    why = "this kernel was started by kexec; the EFI variables are of the boot before"
    assert by_kexec["uki"] == f"not compared: {why}"
    assert by_kexec["command_line"] == "not looked at"
    assert by_kexec["level"] == "carried"

    line = r"^\[ *[0-9.]+\] cfs-init: refused: store: UUID=\S+: (.*)$"
    [refused] = re.findall(line, text, re.MULTILINE)
    assert refused == (
        "on /dev/vda2 and /dev/vdb, and it is not known which disk was booted from: "
        f"{why}, expected one of that name; PARTUUID= names one"
    )


def test_what_counts_after_a_crash(toolbox: Toolbox, rootdisk: RootDisk, tmp_path: Path) -> None:
    """kdump: the variables and the UKI are those of the kernel that crashed."""
    kernel = toolbox.kernel("stable")
    words = f"{COMMAND_LINE} root=PARTUUID={ROOT}\n"
    settings = {CARRIED: rootdisk.carried("whole"), CONFIG: configuration()}
    next_initrd = tmp_path / "initrd"
    next_initrd.write_bytes(boot_initrd(kernel, cfs_init(), files=settings))
    plain, uki, disk = tmp_path / "plain.efi", tmp_path / "sealed.efi", tmp_path / "disk"
    initrd = write_cpio(
        [
            *(directory_entry(name) for name in ("dev", "next", "proc")),
            file_entry("init", crash_first(), 0o755),
            file_entry("next/linux", kernel.vmlinuz),
            file_entry("next/initrd", next_initrd),
            file_entry("next/words", words),
        ]
    )
    build_uki(toolbox, kernel, plain, initrd=initrd, cmdline=f"{COMMAND_LINE} crashkernel=320M")
    product("cfs-uki", "seal", "--digest", rootdisk.digests["no-var"], str(plain), "-o", str(uki))
    root = rootdisk.disk("ext4")
    boot_disk(toolbox, disk, uki, root, esp_partuuid=ESP, root_partuuid=ROOT)
    console = boot(
        toolbox, disks=[Disk(disk, discard_writes=True)],
        memory=1024, limit=LIMIT, log=tmp_path / "log", firmware=Firmware(),
    )  # fmt: skip
    assert not console.timed_out, console.tail
    text = console.text.replace("\r", "")
    [said] = re.findall(r"^/run/cfs/root.json: (.*)$", text, re.MULTILINE)
    record = json.loads(said)
    assert record["digest"] == f"sha256:{rootdisk.digests['whole']}"
    assert record["uki"] == (
        "not compared: this kernel was started by kexec, after a crash; "
        "the EFI variables are of the boot before"
    )
