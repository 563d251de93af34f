# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-init as PID 1: real boots. Failures that need none are in test_init_failures.py.

The initrd has cfs-init, kernel modules, the carried digest and its configuration and nothing else:
no libc, no Python, no shell.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import write_cpio
from pyinit.initrd.machine import btrfs, superblock
from pyinit.initrd.root.digest import ALGORITHMS

from . import bait, disk_watch
from .bundle import bundle
from .cases import Case, run_cases
from .disks import MIB, esp, gpt, logical, sparse_file
from .guest import Console, Disk, boot
from .hotplug import late_disk
from .initrd import (
    BOOT_MODULES,
    CONFIG,
    FILE_SYSTEM_MODULES,
    GUEST_MODULES,
    HASH_MODULES,
    boot_initrd,
    configuration,
    file_entry,
)
from .once import made_once
from .product import cfs_init
from .rootdisk import CARRIED, MARKER, RootDisk
from .store import CACHE
from .target import TARGET
from .toolbox import Toolbox

PARTUUID = "1e0f9a5c-35b1-4b8e-9d5c-7a31c3a1d001"
ESP_PARTUUID = "1e0f9a5c-35b1-4b8e-9d5c-7a31c3a1d002"


def start(
    toolbox: Toolbox,
    role: str,
    disk: Path,
    append: str,
    files: Mapping[str, bytes],
    program: Path | None = None,
    *,
    file_system: str = "ext4",
    log: Path | None = None,
    arguments: Sequence[str] = (),
    over: Mapping[str, bytes] | None = None,
    more: bytes = b"",
    modules: Sequence[str] = (),
    memory: int = 512,
) -> Console:
    """A boot with nothing but cfs-init in the initrd; `over`: files in place of its own; `more`:
    another archive; `memory` in MiB."""
    kernel = toolbox.kernel(role)
    initrd = boot_initrd(
        kernel,
        program or cfs_init(),
        files=files,
        modules=(*BOOT_MODULES, *FILE_SYSTEM_MODULES[file_system], *modules),
    )
    initrd += (
        write_cpio([file_entry(name, content) for name, content in (over or {}).items()]) + more
    )
    console = boot(
        toolbox,
        kernel=kernel.vmlinuz,
        initrd=initrd,
        append=append,
        limit=120,
        disks=[Disk(disk, discard_writes=True)],
        log=log,
        arguments=arguments,
        memory=memory,
    )
    assert not console.timed_out, console.tail
    return console


def has(console: Console, pattern: str) -> "re.Match[str]":
    """The match of a whole line."""
    text = console.text.replace("\r", "")
    found = re.search(rf"^{pattern}$", text, re.MULTILINE)
    assert found, f"no line {pattern!r} in\n{console.tail}"
    return found


def check_root(
    console: Console, digest: str, on_disk: str = "/", *, algorithm: int = 1
) -> dict[str, object]:
    """What a boot shows that went right; the status record. `on_disk`: the root of the disk's
    mount."""
    has(console, "root-init: pid 1")
    has(
        console,
        rf"/proc/self/mountinfo: \d+ .* / / ro.* - overlay composefs:{digest} ro.*"
        r"\bverity=require\b.*",
    )
    has(console, r"/proc/self/mountinfo: .* / /etc rw,.* - overlay .*verity=require.*")
    has(console, r"/proc/self/mountinfo: .* / /var rw,.* - tmpfs .*")
    has(console, rf"/proc/self/mountinfo: .* {on_disk} /sysroot ro,nosuid,nodev,noexec.*")
    for name in ("proc", "sys", "dev", "run"):
        has(console, rf"/proc/self/mountinfo: .* / /{name} .*")
    has(console, "/etc/hostname: booted")
    has(console, f"/sysroot/marker: {MARKER.strip()}")
    for name, state in (("etc", ""), ("var", ""), ("usr", "not "), ("sysroot", "not ")):
        has(console, f"/{name}/new: {state}writable")
    listed = set(re.findall(r"^/ has: (\S+)\r?$", console.text, re.MULTILINE))
    assert listed == {
        *(".", "..", "dev", "etc", "proc", "run", "sbin", "sys", "sysroot", "usr", "var"),
    }
    # 0 to 2 are the console, 3 is the directory that lists them, 4 the mount table it is in.
    fds = re.findall(r"^/proc/self/fd has: (\d+)\r?$", console.text, re.MULTILINE)
    assert sorted(map(int, fds)) == [0, 1, 2, 3]
    has(console, "root-init: done")
    record: dict[str, object] = json.loads(has(console, "/run/cfs/root.json: (.*)").group(1))
    assert record["digest"] == f"{ALGORITHMS[algorithm]}:{digest}"
    assert record["verity"] == "require"
    assert record["canary"] == "usr/canary"
    assert (record["level"], record["store"]) == ("carried", "/composefs")
    assert (record["etc"], record["var"], record["sysroot"]) == ("transient", "tmpfs", "read-only")
    return record


def test_boots_a_device_on_ext4(toolbox: Toolbox, rootdisk: RootDisk) -> None:
    """By its UUID, and nobody but us touches the disk before.

    Modules get their parameters, by the command line last of all; and one comes for the processor,
    which has no device on a bus. The image's init gets what the kernel would give its own.
    """
    digest = rootdisk.digests["whole"]
    disk = rootdisk.disk("ext4")
    # Later kernels have it built in, have no choice, and say nothing.
    chooses = toolbox.kernel("stable").series == "6.12"
    with disk.open("rb") as file:
        [block] = superblock.read(file.read(superblock.NEEDED))
    console = start(
        toolbox,
        "stable",
        disk,
        f"root=UUID={block.uuid.upper()} quiet loglevel=7 {disk_watch.APPEND} "
        "overlay.redirect_max=77 loop.max_part=63 single xa xb=1 root=/dev/x "
        "mount.usr=/dev/y rd.break "
        'xc="2 3" -- first "second third" xd=4',
        {
            CARRIED: rootdisk.carried("0" * 64, "whole"),
            "etc/modprobe.d/test.conf": b"options overlay redirect_max=99\n"
            b'options loop max_part=15 "max_loop=3"\n',
        },
        more=disk_watch.archive(),
        modules=(TARGET.sha256,) if chooses else (),
    )
    record = check_root(console, digest)
    assert record["missing_candidates"] == ["sha256:" + "0" * 64]
    assert record["loop"] is False
    has(console, r"init: warning: root= is there more than once, the first counts: UUID=.*")
    has(console, "init: warning: words for other initrds, not obeyed: mount.usr rd.break")
    text = console.text.replace("\r", "")
    arguments = re.findall(r"^argument: (.*)$", text, re.MULTILINE)
    assert arguments == ["single", "xa", "first", "second third", "xd=4"]
    variables = re.findall(r"^variable: (.*)$", text, re.MULTILINE)
    assert variables == ["HOME=/", "TERM=linux", "xb=1", "xc=2 3"]
    for name, value in (("overlay/parameters/redirect_max", 77), ("loop/parameters/max_part", 63)):
        has(console, f"/sys/module/{name}: {value}")
    has(console, "/sys/module/loop/parameters/max_loop: 3")
    if chooses:
        has(console, f"/sys/module/{TARGET.sha256}/initstate: live")
        has(console, r'.* fs-verity: sha256 using implementation "sha256-(?!generic).*"')
    has(console, r"init: candidate sha256:0{64} has no image, going on to the next")
    disk_watch.check(disk_watch.on_console(console.text), str(record["device"]), "init")
    assert not bait.executed(console.text)


@pytest.mark.all_only
@pytest.mark.parametrize("huge", ["always", "never"])
def test_boots_with_little_memory(toolbox: Toolbox, rootdisk: RootDisk, huge: str) -> None:
    """Of a distribution's kernel, which takes most of it. With huge pages and without."""
    console = start(
        toolbox,
        "stable",
        rootdisk.disk("ext4"),
        f"root=/dev/vda transparent_hugepage={huge}",
        {CARRIED: rootdisk.carried("whole")},
        memory=128,
    )
    check_root(console, rootdisk.digests["whole"])


@dataclass(frozen=True)
class TwoDisks:
    """The devices of one btrfs, and its UUID."""

    first: Path
    second: Path
    uuid: str


@pytest.fixture(scope="session")
def two_disks(toolbox: Toolbox, rootdisk: RootDisk) -> TwoDisks:
    """The root disk on btrfs, and one that was added to it in a guest."""
    sealed = rootdisk.disk("btrfs")
    script = (
        "mount -t btrfs /dev/vda /disk && btrfs subvolume snapshot /disk /disk/@ && "
        "btrfs device add -K /dev/vdb /disk; umount /disk"
    )

    def make(directory: Path) -> None:
        first = directory / "first"
        subprocess.run(["cp", "--sparse=always", sealed, first], check=True, timeout=600)
        second = sparse_file(directory / "second", 128 * MIB)
        run_cases(
            toolbox,
            toolbox.kernel("stable"),
            [Case("add", script, limit=60)],
            disks=[Disk(first), Disk(second)],
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["btrfs"], *HASH_MODULES),
            files=bundle("btrfs", "usr/bin/btrfs", toolbox.guest_tree),
        ).check("add")

    made = made_once(CACHE / "two-disks", f"{sealed.parent.name} {script}", make)
    first, second = made / "first", made / "second"
    blocks = []
    for disk in (first, second):
        with disk.open("rb") as file:
            blocks += superblock.read(file.read(superblock.NEEDED))
    assert btrfs.is_one([[block] for block in blocks])
    return TwoDisks(first, second, blocks[0].uuid)


@pytest.mark.newest
def test_boots_a_partition_on_btrfs(
    toolbox: Toolbox, rootdisk: RootDisk, two_disks: TwoDisks, tmp_path: Path
) -> None:
    """Its other device is plugged in later. The initrd has no f2fs, and it is no ext4."""
    empty = esp(toolbox, tmp_path / "esp", {}, 40 * MIB)
    gpt(
        toolbox,
        tmp_path / "disk",
        esp_image=empty,
        root_image=two_disks.first,
        esp_partuuid=ESP_PARTUUID,
        root_partuuid=PARTUUID,
    )
    log = tmp_path / "console"
    with late_disk(two_disks.second, log, r"\[vda\]") as arguments:
        console = start(
            toolbox,
            "newest",
            tmp_path / "disk",
            f"root=PARTUUID={PARTUUID.upper()} init=/usr/sbin/init "
            "rootfstype=f2fs,ext4,btrfs rootflags=skip_balance,noatime rootdelay=200",
            {CARRIED: rootdisk.carried("whole")},
            file_system="btrfs",
            log=log,
            arguments=arguments,
        )
    record = check_root(console, rootdisk.digests["whole"])
    assert record["missing_candidates"] == []
    has(console, r".*\[vdb\] .* blocks.*")
    has(console, r"/proc/self/mountinfo: .* /sysroot ro,.*,noatime .* btrfs .*\bskip_balance\b.*")


def test_boots_a_btrfs_over_two_disks(
    toolbox: Toolbox, rootdisk: RootDisk, two_disks: TwoDisks
) -> None:
    """By the UUID that both have, and in a subvolume."""
    second = f"if=none,id=second,format=raw,file={two_disks.second},snapshot=on"
    console = start(
        toolbox,
        "stable",
        two_disks.first,
        f"root=UUID={two_disks.uuid} rootflags=subvol=@",
        {CARRIED: rootdisk.carried("whole")},
        file_system="btrfs",
        arguments=["-drive", second, "-device", "virtio-blk-pci,drive=second"],
    )
    check_root(console, rootdisk.digests["whole"], on_disk="/@")


@pytest.mark.all_only
@pytest.mark.parametrize("flags", ["", "rootflags=degraded"])
def test_a_device_of_a_btrfs_that_is_missing(
    toolbox: Toolbox, rootdisk: RootDisk, two_disks: TwoDisks, flags: str
) -> None:
    console = start(
        toolbox,
        "stable",
        two_disks.first,
        f"root=/dev/vda {flags}",
        {CARRIED: rootdisk.carried("whole"), CONFIG: configuration(root_wait=1)},
        file_system="btrfs",
    )
    if flags:
        check_root(console, rootdisk.digests["whole"])
    else:
        found = rf"btrfs {two_disks.uuid} has 2 devices, found after 1 s: 1 \(/dev/vda\)"
        has(console, rf"\[ *[0-9.]+\] cfs-init: refused: store: /dev/vda: {found}.*")


def test_waits_for_a_root_device_that_appears_late(
    toolbox: Toolbox, rootdisk: RootDisk, tmp_path: Path
) -> None:
    """It is plugged in when init, loading drivers, has made the first disk appear. The root is on a
    logical partition, whose UUID kernels before 6.13 do not tell."""
    disk, log = rootdisk.disk("ext4"), tmp_path / "console"
    number = logical(tmp_path / "disk", disk, 0xC0DE0001)
    with late_disk(tmp_path / "disk", log, r"\[vda\]") as arguments:
        console = start(
            toolbox,
            "stable",
            disk,
            f"root=PARTUUID=C0DE0001-{number:02X}",
            {CARRIED: rootdisk.carried("whole")},
            log=log,
            arguments=arguments,
        )
    check_root(console, rootdisk.digests["whole"])
    has(console, rf"/proc/self/mountinfo: .* / /sysroot .* /dev/vdb{number} .*")
    has(console, r".*\[vdb\] .* blocks.*")


def test_a_missing_root_device_is_named_and_the_machine_reboots(
    toolbox: Toolbox, rootdisk: RootDisk
) -> None:
    console = start(
        toolbox,
        "stable",
        rootdisk.disk("ext4"),
        "root=/dev/vdq",
        {CARRIED: rootdisk.carried("whole"), CONFIG: configuration(root_wait=1)},
    )
    # Once, by the kernel, which writes to this console too.
    said = r"refused: store: /dev/vdq: not found after 1 s; there are: .*vda.*"
    has(console, rf"\[ *[0-9.]+\] cfs-init: {said}")
    assert console.text.count("refused: ") == 1
    has(console, r"\[ *[0-9.]+\] init: reboot in 0 s")
    has(console, r".*reboot: Restarting system")
    assert "root-init" not in console.text
    assert "Kernel panic" not in console.text


def test_a_driver_that_does_not_load_is_named(toolbox: Toolbox, rootdisk: RootDisk) -> None:
    driver = f"{toolbox.kernel('stable').version}/kernel/drivers/block/virtio_blk.ko"
    console = start(
        toolbox,
        "stable",
        rootdisk.disk("ext4"),
        "root=/dev/vda",
        {CARRIED: rootdisk.carried("whole"), CONFIG: configuration(root_wait=1)},
        over={f"usr/lib/modules/{driver}": b"for another machine"},
    )
    has(
        console,
        r"\[ *[0-9.]+\] cfs-init: refused: store: /dev/vda: not found after 1 s; there are: .*; "
        r"drivers that did not load: virtio_blk: Exec format error \(ENOEXEC\).*",
    )


def test_an_uncaught_exception_is_reported_and_the_machine_powers_off(
    toolbox: Toolbox, rootdisk: RootDisk, crashing: Path
) -> None:
    console = start(
        toolbox,
        "stable",
        rootdisk.disk("ext4"),
        "root=/dev/vda",
        {CARRIED: rootdisk.carried("whole"), CONFIG: configuration(failure="poweroff")},
        crashing,
    )
    for line in (
        r"cfs-init: Traceback \(most recent call last\):",
        r'cfs-init:   File "failing_canary.py", line 7, in check',
        r"cfs-init: KeyError: .nobody expected this: /sysroot.*",
        "init: poweroff in 0 s",
    ):
        has(console, rf"\[ *[0-9.]+\] {line}")
    assert console.text.count("KeyError: ") == 1
    has(console, r".*reboot: Power down")
    assert "\x1b[31m" not in console.text
