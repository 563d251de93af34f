# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-seal-disk: which partitions of which disks it seals, by any name of a disk.

That a disk which mkosi made boots when it is sealed: test_mkosi.py.
"""

import os
import re
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import pytest

from tests.demo.guest_python import python_files
from tests.initrd import partition_tables

from .bundle import bundle
from .cases import Case, LazyResults, run_cases
from .disks import BLOCK, ESP_TYPE, MIB, ROOT_TYPE, ext4, partitioned, sparse_file
from .guest import Disk
from .once import REPOSITORY
from .rootdisk import make_rootdisk
from .toolbox import Toolbox

SEALED = r"[1-9]\d* objects: [1-9]\d* sealed, 0 were sealed, 0 not sealed, 0 of other content\n"
EXT4_VERITY = 0x100000  # EXT4_VERITY_FL, of Linux' fs/ext4/ext4.h
AGAIN = r"[1-9]\d* objects: 0 sealed, [1-9]\d* were sealed, 0 not sealed, 0 of other content\n"
CASES = (
    # A, B, another system's root, and one that waits for its first update; links as udev has them
    Case(
        "every-store",
        "mkdir -p /dev/disk/by-id && ln -s ../../vda /dev/disk/by-id/virtio-1 &&"
        "cfs-seal-disk /dev/disk/by-id/virtio-1",
        limit=200,
        stdout=rf"\A({SEALED}){{2}}\Z",
        stderr=r"\Acfs-seal-disk: /dev/vda2: sealing\n(cfs-store: .*\n)*"
        r"cfs-seal-disk: /dev/vda3: sealing\n(cfs-store: .*\n)*"
        r"cfs-seal-disk: /dev/vda4: no store at /composefs, left as it is\n"
        r"cfs-seal-disk: /dev/vda5: no file system, left as it is\n\Z",
    ),
    Case("again", "cfs-seal-disk /dev/vda", limit=200, stdout=rf"\A({AGAIN}){{2}}\Z"),
    # /dev/cciss/c0d0p1 is cciss!c0d0p1 in sysfs; no driver of such names is here
    Case(
        "names-with-a-slash",
        "mkdir -p /dev/odd && mknod /dev/odd/d0 b $(tr : ' ' </sys/block/vdb/dev) &&"
        "mknod /dev/odd/d0p1 b $(tr : ' ' </sys/block/vdb/vdb1/dev) &&"
        "echo DEVNAME=odd/d0p1 >/tmp/uevent &&"
        "mount --bind /tmp/uevent /sys/block/vdb/vdb1/uevent && cfs-seal-disk /dev/odd/d0;"
        "code=$?; umount /sys/block/vdb/vdb1/uevent; exit $code",
        limit=200,
        code=2,
        stdout=rf"\A{SEALED}\Z",
        stderr=r"cfs-seal-disk: /dev/odd/d0p1: sealing\n",
    ),
    # What cannot be looked into is no reason to leave the others, but a failure.
    Case(
        "one-is-locked",
        "cfs-seal-disk /dev/vdb",
        limit=200,
        code=2,
        stdout=rf"\A{AGAIN}\Z",
        stderr=r"cfs-seal-disk: /dev/vdb2: crypto_LUKS, not mounted\n",
    ),
    # Nor is what blkid takes for two things at once; it is not empty.
    Case(
        "one-is-ambiguous",
        "cfs-seal-disk /dev/vdb",
        limit=200,
        code=2,
        stdout=rf"\A{AGAIN}\Z",
        stderr=r"cfs-seal-disk: /dev/vdb3: not looked into, blkid exits 8: .*ambivalent.*\n\Z",
    ),
    Case(
        "no-store",
        "cfs-seal-disk /dev/vdc",
        limit=60,
        code=2,
        stdout=r"\A\Z",
        stderr=r"cfs-seal-disk: /dev/vdc: no store at /composefs of a root partition\n\Z",
    ),
    Case(
        "no-root-partition",
        "cfs-seal-disk /dev/vde",
        code=2,
        stderr=r"\Acfs-seal-disk: /dev/vde: no partition of the type root-x86-64 or root-arm64",
    ),
    # The two real causes, which were "no root partition" once
    Case(
        "no-partitions",
        "cfs-seal-disk /dev/vdc1",
        code=2,
        stderr=r"\Acfs-seal-disk: /dev/vdc1: the kernel has no partition of it\. Give the image",
    ),
    Case(
        "no-nodes",
        "mv /dev/vda1 /dev/away && cfs-seal-disk /dev/vda; code=$?;"
        "mv /dev/away /dev/vda1; exit $code",
        code=2,
        stderr=r"\Acfs-seal-disk: /dev/vda1: a partition of /dev/vda that has no node in /dev",
    ),
    # An image needs no node of a partition: none is made where the kernel does not look for them.
    Case(
        "image",
        "mkdir -p /tmp/images && mount /dev/vdd /tmp/images && cfs-seal-disk /tmp/images/several &&"
        "cfs-seal-disk /tmp/images/several; code=$?; losetup -a; umount /tmp/images; exit $code",
        limit=300,
        stdout=rf"\A({SEALED}){{2}}({AGAIN}){{2}}\Z",
        stderr=r"\Acfs-seal-disk: /tmp/images/several, partition 2: sealing\n(cfs-store: .*\n)*"
        r"cfs-seal-disk: /tmp/images/several, partition 3: sealing\n(cfs-store: .*\n)*"
        r"cfs-seal-disk: /tmp/images/several, partition 4: no store at /composefs, left as it is\n"
        r"cfs-seal-disk: /tmp/images/several, partition 5: no file system, left as it is\n",
    ),
    # Its table stands at byte 4096.
    Case(
        "image-of-long-sectors",
        "mkdir -p /tmp/images && mount /dev/vdd /tmp/images && cfs-seal-disk /tmp/images/long;"
        "code=$?; umount /tmp/images; exit $code",
        limit=200,
        stdout=rf"\A{SEALED}\Z",
        stderr=r"\Acfs-seal-disk: /tmp/images/long, partition 1: sealing\n",
    ),
    Case(
        "image-without",
        "mkdir -p /tmp/images && mount /dev/vdd /tmp/images && cfs-seal-disk /tmp/images/none;"
        "code=$?; umount /tmp/images; exit $code",
        code=2,
        stderr=r"\Acfs-seal-disk: /tmp/images/none: no partition of the type root-x86-64",
    ),
)


def _long(path: Path, content: Path) -> None:
    """An image of one root partition, for a disk with sectors of 4096 bytes."""
    size, first = content.stat().st_size, 256
    table = partition_tables.gpt(
        [(1, ROOT_TYPE, str(uuid.uuid4()), first, first + size // BLOCK - 1)], BLOCK
    )
    header = memoryview(table)[BLOCK : BLOCK + 92]
    header[88:] = zlib.crc32(table[2 * BLOCK :]).to_bytes(4, "little")
    header[16:20] = zlib.crc32(header).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(table)
        file.seek(first * BLOCK)
        file.write(content.read_bytes())
        file.truncate(10_000 * BLOCK)  # as the table says


def _disks(toolbox: Toolbox, directory: Path) -> list[Path]:
    store = make_rootdisk(toolbox).tree
    (directory / "other/usr").mkdir(parents=True)
    one, two = (ext4(toolbox, directory / name, store, 16 * MIB) for name in ("one", "two"))
    other = ext4(toolbox, directory / "other.ext4", directory / "other", 4 * MIB)
    nothing = sparse_file(directory / "nothing", MIB)
    locked = directory / "locked"
    locked.write_bytes(b"LUKS\xba\xbe\0\x01".ljust(MIB, b"\0"))

    ambiguous = ext4(toolbox, directory / "ambiguous.ext4", store, 16 * MIB)
    with ambiguous.open("r+b") as file:
        file.seek(4086)
        file.write(b"SWAP-SPACE")

    def disk(name: str, *roots: Path, esp: bool = False) -> Path:
        parts = [(ROOT_TYPE, "R", image) for image in roots]
        if esp:
            parts.insert(0, (ESP_TYPE, "R", nothing))
        partitioned(toolbox, directory / name, parts)
        return directory / name

    several = disk("several", one, two, other, nothing, esp=True)
    images = directory / "images"
    images.mkdir()
    subprocess.run(["cp", "--sparse=always", several, images / "several"], check=True, timeout=600)
    (images / "none").write_bytes(bytes(MIB))
    _long(images / "long", ext4(toolbox, directory / "long.ext4", store, 16 * MIB))
    return [
        several,
        disk("with-locked", one, locked, ambiguous),
        disk("without", other),
        ext4(toolbox, directory / "images.ext4", images, 128 * MIB),
        disk("no-root", esp=True),
    ]


@pytest.fixture(scope="module")
def guest(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> LazyResults:
    return LazyResults(
        lambda: run_cases(
            toolbox,
            toolbox.kernel("stable"),
            CASES,
            disks=[Disk(disk) for disk in _disks(toolbox, tmp_path_factory.mktemp("disks"))],
            memory=1024,
            files={
                **python_files(toolbox),
                **bundle("blkid", "usr/sbin/blkid"),
                # The shell of busybox prefers its own losetup.
                **bundle("dash", "usr/bin/dash"),
                **bundle("losetup", "usr/sbin/losetup"),
                **bundle("partx", "usr/bin/partx"),
                "usr/bin/cfs-store": '#!/usr/bin/busybox sh\nexec python cfs-store "$@"\n',
                "opt/seal-disk": REPOSITORY / "dracut-module/mkosi/cfs-seal-disk",
                "usr/bin/cfs-seal-disk": '#!/usr/bin/busybox sh\nexec dash /opt/seal-disk "$@"\n',
            },
        )
    )


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_case(guest: LazyResults, name: str) -> None:
    guest.check(name)


def test_in_a_virtual_machine_of_its_own(toolbox: Toolbox, tmp_path: Path) -> None:
    """Of a disk with long sectors, which the guest's disk has to have too."""
    kernel = toolbox.kernel("stable")
    tree = tmp_path / "tree"
    for name, target in (
        (f"boot/vmlinuz-{kernel.version}", kernel.vmlinuz),
        (f"lib/modules/{kernel.version}", kernel.modules_dir),
    ):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).symlink_to(target)
    disk = tmp_path / "disk"
    store = make_rootdisk(toolbox).tree
    _long(disk, ext4(toolbox, tmp_path / "one", store, 16 * MIB))
    sealed = next((store / "composefs").glob("objects/??/*")).relative_to(store / "composefs")
    environment = {
        **os.environ,
        # QEMU of the toolbox.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{toolbox.bin}",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'build/lib'}",
    }
    # On a busy host a kernel may end before its first program: guest.py tries again too.
    for _ in range(3):
        done = subprocess.run(
            ["sh", REPOSITORY / "dracut-module/mkosi/cfs-seal-disk", "--vm", tree, disk],
            env=environment, capture_output=True, text=True, timeout=1500, check=False,
        )  # fmt: skip
        if "ended too early" not in done.stderr:
            break
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(
        rf"^cfs-seal-disk: /dev/vda1: sealing\n(.*\n)*{SEALED}\Z", done.stdout, re.MULTILINE
    )
    # What was sealed is the image, and not a copy.
    flags = toolbox.run(
        "debugfs", "-R", f"stat /composefs/{sealed}", f"{disk}?offset={256 * BLOCK}"
    )  # fmt: skip
    assert int(re.findall(r"Flags: 0x([0-9a-f]+)", flags)[0], 16) & EXT4_VERITY
