# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Firmware, secure boot and TPM of the virtual machines, with a UKI that only reports."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from .disks import MIB, sparse_file
from .guest import COMMAND_LINE, Disk, Firmware, boot, sign
from .initrd import EFI_MODULES, FILE_SYSTEM_MODULES, GUEST_MODULES, guest_initrd
from .target import TARGET
from .toolbox import Toolbox
from .uki import boot_disk, build_uki

pytestmark = pytest.mark.vm

ESP = "abcdef01-2222-4333-8444-555555555555"
ROOT = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
LIMIT = 240

# EFI variables: 4 bytes of attributes, then UTF-16 or, for SecureBoot (which firmware without
# secure boot lacks), one byte. The stub writes its partition in upper case.
INIT = """#!/usr/bin/busybox sh
export PATH=/usr/bin
/usr/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo "guest: begun"
for module in efivarfs virtio_pci virtio_blk vfat nls_cp437 nls_ascii; do modprobe -q $module; done
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
cd /sys/firmware/efi/efivars
for variable in StubInfo LoaderDevicePartUUID StubImageIdentifier; do
    echo "$variable=$(tail -c +5 $variable-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f | tr -d '\\000')"
done
echo "SecureBoot=$(tail -c 1 SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c | xxd -p)"
echo "partitions=$(cd /sys/class/block; echo vda*)"
[ -e /sys/class/tpm/tpm0 ] && echo "pcr11=$(cat /sys/class/tpm/tpm0/pcr-sha256/11)"
cat /proc/cmdline
poweroff -f
"""


@pytest.fixture(scope="module")
def uki(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not signed."""
    kernel = toolbox.kernel("stable")
    modules = (*GUEST_MODULES, *EFI_MODULES, *FILE_SYSTEM_MODULES["vfat"])
    return build_uki(
        toolbox,
        kernel,
        tmp_path_factory.mktemp("uki") / "uki.efi",
        initrd=guest_initrd(toolbox, kernel, INIT, modules=modules),
        cmdline=f"{COMMAND_LINE} loglevel=4 from=uki",
    )


def _disk(toolbox: Toolbox, directory: Path, uki: Path) -> Disk:
    disk = directory / "disk.raw"
    boot_disk(
        toolbox,
        disk,
        uki,
        sparse_file(directory / "root", MIB),
        esp_partuuid=ESP,
        root_partuuid=ROOT,
    )
    return Disk(disk)


def test_uki_with_tpm(toolbox: Toolbox, uki: Path, tmp_path: Path) -> None:
    console = boot(
        toolbox,
        disks=[_disk(toolbox, tmp_path, uki)],
        limit=LIMIT,
        firmware=Firmware(tpm=tmp_path / "tpm"),
    )
    assert not console.timed_out, console.tail
    for line in (
        "StubInfo=systemd-stub 2",
        f"LoaderDevicePartUUID={ESP.upper()}",
        "from=uki",
        rf"StubImageIdentifier=\EFI\BOOT\{TARGET.boot_file}",
        "partitions=vda vda1 vda2",
    ):
        assert line in console.text, console.tail
    measured = re.search(r"pcr11=([0-9A-Fa-f]{64})", console.text)
    assert measured, console.tail
    assert int(measured.group(1), 16) != 0


def test_secure_boot_takes_signed_only(toolbox: Toolbox, uki: Path, tmp_path: Path) -> None:
    secure = Firmware(secure_boot=True)
    signed = sign(toolbox, uki, tmp_path / "signed.efi")
    console = boot(toolbox, disks=[_disk(toolbox, tmp_path, signed)], firmware=secure, limit=LIMIT)
    assert not console.timed_out, console.tail
    assert "SecureBoot=01" in console.text, console.tail

    other = tmp_path / "unsigned"
    other.mkdir()
    refused = boot(
        toolbox,
        disks=[replace(_disk(toolbox, other, uki), read_only=True)],
        firmware=secure,
        limit=LIMIT,
        until="Access Denied|Security Violation|from=uki",
    )
    assert re.search("Access Denied|Security Violation", refused.text), refused.tail
    assert "from=uki" not in refused.text
