# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-uki predict` against a TPM (swtpm), OVMF, systemd-stub, systemd-measure and systemd-pcrlock;
and the recipe of docs/howto/tpm.md: a LUKS volume that opens with one root only.

The UKI has profiles and names two images, of which the disk decides. The key is enrolled before the
first boot, by what is predicted.
"""

import _cfs
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import write_cpio
from pyinit.host.uki.predict import BANKS
from pyinit.host.uki.read import Uki
from tests.demo.command import product

from . import dracut, luks, suites
from .apt import SuiteGoneError
from .guest import COMMAND_LINE, Console, Disk, Firmware, boot, swtpm
from .initrd import (
    CONFIG,
    EFI_MODULES,
    GUEST_MODULES,
    HASH_MODULES,
    configuration,
    file_entry,
    guest_initrd,
)
from .product import cfs_init
from .repository import object_path
from .rootdisk import CARRIED, RootDisk, make_rootdisk
from .target import TARGET
from .toolbox import Kernel, Toolbox
from .uki import ADDON_STUB, STUBS, boot_disk, build_uki

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unshare and chroot need root")

ESP = "9c500000-0000-4000-8000-000000000001"
ROOT = "9c500000-0000-4000-8000-000000000002"
LIMIT = 240
PCR = 8
PHASE = "enter-initrd"

# What is done to the disk first is on /dev/vdb.
INIT = r"""#!/usr/bin/busybox sh
export PATH=/usr/bin
/usr/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo "guest: begun"
for module in MODULES; do modprobe -q $module; done
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
until [ -e /dev/vport0p1 ] && [ -e /dev/vdd ]; do sleep 0.1; done
exec >/dev/vport0p1 2>&1
pcrs() {
    for bank in sha1 sha256 sha384 sha512; do
        for pcr in 4 8 9 11 12 13 15; do
            echo "$1 $pcr $bank $(cat /sys/class/tpm/tpm0/pcr-$bank/$pcr | tr A-F a-f)"
        done
    done
}
disk=/dev/vda
[ ! -e /dev/vda2 ] || disk=/dev/vda2
mkdir -p /sysroot /tools
mount -t ext4 $disk /disk
. /dev/vdb
mount -t erofs /dev/vdc /tools
for place in dev proc sys; do mount --rbind /$place /tools/$place; done
mount -t tmpfs tmpfs /tools/run
mount -t tmpfs tmpfs /tools/tmp
pcrs stub
mount --bind /disk /sysroot
cfs-setup-root --sysroot /sysroot
echo "code $?"
pcrs root
echo "record $(cat /run/cfs/root.json)"
chroot /tools /usr/lib/systemd/systemd-pcrextend enter-initrd
pcrs phase
DM_DISABLE_UDEV=1 chroot /tools /usr/bin/systemd-cryptsetup attach data /dev/vdd - \
    tpm2-device=/dev/tpmrm0,headless=true
echo "attached $?"
ls /dev/mapper
poweroff -f
"""
MODULES = (*GUEST_MODULES, *HASH_MODULES, *EFI_MODULES, *luks.MODULES)


@dataclass(frozen=True)
class Parts:
    """What all boots have."""

    kernel: Kernel
    initrd: bytes
    uki: Path
    disk: Path
    root: RootDisk
    programs: luks.Programs


@pytest.fixture(scope="module")
def parts(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    directory = tmp_path_factory.mktemp("predict")
    kernel, root = toolbox.kernel("stable"), make_rootdisk(toolbox)
    settings = configuration(etc="none", var="none", measure_pcr=str(PCR), measure_required=True)
    files: Mapping[str, bytes | str | Path] = {
        "usr/bin/cfs-setup-root": cfs_init(),
        CONFIG: settings,
    }
    init = INIT.replace("MODULES", " ".join(MODULES))
    initrd = guest_initrd(toolbox, kernel, init, modules=MODULES, files=files)
    uki = _uki(toolbox, kernel, initrd, root, directory)
    disk = directory / "disk"
    boot_disk(toolbox, disk, uki, root.disk("ext4"), esp_partuuid=ESP, root_partuuid=ROOT)
    return Parts(kernel, initrd, uki, disk, root, luks.programs(toolbox))


def _uki(toolbox: Toolbox, kernel: Kernel, initrd: bytes, root: RootDisk, directory: Path) -> Path:
    """Not signed. Profile 0 has the command line of the base, profile 1 its own."""
    digests = [f"--digest={root.digests[name]}" for name in ("whole", "no-init")]
    sealed = product("cfs-uki", "payload", *digests, str(directory)).split()
    first, addition, uki = (directory / name for name in ("initrd", "profile.efi", "uki.efi"))
    first.write_bytes(initrd)
    stubs = toolbox.guest_path(STUBS)
    toolbox.run(
        "ukify", "build", f"--stub={stubs / ADDON_STUB}", "--profile=ID=other",
        f"--cmdline={COMMAND_LINE} other", f"--output={addition}",
    )  # fmt: skip
    toolbox.run(
        "ukify", "build", f"--linux={kernel.vmlinuz}", f"--uname={kernel.version}",
        f"--stub={stubs / TARGET.stub}", f"--cmdline={COMMAND_LINE} loglevel=4",
        "--os-release=ID=test\n",
        f"--initrd={first}", *sealed, f"--join-profile={addition}", f"--output={uki}",
    )  # fmt: skip
    return uki


def predicted(*arguments: str) -> str:
    return product("cfs-uki", "predict", *arguments)


# ---- one boot each


@dataclass(frozen=True)
class Boot:
    """What a guest said, by the first word of a line."""

    lines: list[str]
    console: Console

    def said(self, key: str) -> list[str]:
        found = [line[len(key) + 1 :] for line in self.lines if line.startswith(f"{key} ")]
        assert found, f"no {key!r}: {self.messages}\n{self.console.tail}"
        return found

    def pcr(self, moment: str, number: int) -> dict[str, str]:
        """By bank."""
        rows = [line.split() for line in self.said(moment)]
        return {bank: value for pcr, bank, value in rows if pcr == str(number)}

    @property
    def messages(self) -> str:
        """All but the PCRs."""
        words = ("stub ", "root ", "phase ")
        return "\n".join(line for line in self.lines if not line.startswith(words))

    @property
    def opened(self) -> bool:
        """Did the volume open? What its program says and what the kernel has agree."""
        [code], there = self.said("attached"), "data" in self.lines
        assert (code == "0") == there, self.messages
        return there


def _boot(
    toolbox: Toolbox, parts: Parts, directory: Path, volume: Path, *,
    script: str = "", firmware: bool = True,
) -> Boot:  # fmt: skip
    """By UKI and firmware; or, by `-kernel`, the same initrd without both."""
    text = script.encode() + b"\n"
    commands = directory / "commands"
    commands.write_bytes(text + b"\n" * (-len(text) % 4096))
    disks = [
        Disk(parts.disk, discard_writes=True), Disk(commands, read_only=True),
        Disk(parts.programs.image, read_only=True), Disk(volume, discard_writes=True),
    ]  # fmt: skip
    state = directory / "tpm"
    if firmware:
        console = boot(toolbox, disks=disks, firmware=Firmware(tpm=state), limit=LIMIT)
    else:
        with swtpm(toolbox, state, directory) as tpm:
            disks[0] = replace(disks[0], path=parts.root.disk("ext4"))
            initrd = parts.initrd + _carried(parts)
            console = boot(
                toolbox, kernel=parts.kernel.vmlinuz, initrd=initrd, disks=disks, limit=LIMIT,
                append="loglevel=4", arguments=tpm.arguments,
            )  # fmt: skip
    assert not console.timed_out, console.tail
    return Boot(console.results.decode(errors="replace").splitlines(), console)


def _carried(parts: Parts) -> bytes:
    return write_cpio([file_entry(CARRIED, parts.root.carried("whole", "no-init"))])


@dataclass(frozen=True)
class Sealed:
    """A volume, and the TPM that opens it."""

    directory: Path
    volume: Path


@pytest.fixture(scope="module")
def sealed(toolbox: Toolbox, parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Enrolled before any boot, as the page has it."""
    directory = tmp_path_factory.mktemp("luks")
    pcrs = predicted(
        "--format", "cryptenroll", "--phase", PHASE, "--digest", parts.root.digests["whole"],
        str(parts.uki),
    ).strip()  # fmt: skip
    assert pcrs.count("+") == 2
    volume = luks.volume(toolbox, parts.programs, directory / "tpm", pcrs, directory)
    return Sealed(directory, volume)


@pytest.fixture(scope="module")
def right(toolbox: Toolbox, parts: Parts, sealed: Sealed) -> Boot:
    return _boot(toolbox, parts, sealed.directory, sealed.volume)


def test_the_pcrs_are_as_predicted(right: Boot, parts: Parts) -> None:
    """In each bank, at each moment."""
    arguments = ["--json", "--phase", ":", "--phase", PHASE]
    about = json.loads(predicted(*arguments, str(parts.uki)))
    found = {
        (each["pcr"], each["image"], moment["after"]): moment["values"]
        for each in about["pcrs"]
        for moment in each["moments"]
    }
    image = f"sha256:{parts.root.digests['whole']}"
    assert about["profile"] == 0
    assert set(found[4, None, "the kernel"]) == set(BANKS)
    assert right.pcr("stub", 4) == right.pcr("phase", 4) == found[4, None, "the kernel"]
    assert right.pcr("stub", 11) == found[11, None, "the stub"]
    assert right.pcr("phase", 11) == found[11, None, PHASE]
    assert right.pcr("root", PCR) == right.pcr("phase", PCR) == found[PCR, image, "the root"]
    [record] = map(json.loads, right.said("record"))
    assert record["measured"]["pcr"] == PCR


@pytest.mark.parametrize("pcr", [8, 12, 13, 15])
def test_what_firmware_and_stub_leave_alone(right: Boot, pcr: int) -> None:
    """So it begins with zeros when the initrd does."""
    assert not int("".join(right.pcr("stub", pcr).values()), 16)


def test_the_right_root_opens_the_volume(right: Boot) -> None:
    assert right.said("code") == ["0"]
    assert right.opened


def test_another_image_of_the_same_store_does_not(
    toolbox: Toolbox, parts: Parts, sealed: Sealed
) -> None:
    """The same UKI. Somebody has removed the image that it names first."""
    image = parts.root.digests["whole"]
    attack = f"""
mount -o remount,rw /disk
rm /disk/composefs/images/{image} /disk/composefs/{object_path(image)}
mount -o remount,ro /disk
"""
    other = _boot(toolbox, parts, sealed.directory, sealed.volume, script=attack)
    assert other.said("code") == ["0"], other.messages
    [record] = map(json.loads, other.said("record"))
    assert record["digest"] == f"sha256:{parts.root.digests['no-init']}"
    arguments = ["--digest", parts.root.digests["no-init"], "--phase", PHASE, "--json"]
    about = json.loads(predicted(*arguments, str(parts.uki)))
    for each in about["pcrs"]:
        assert other.pcr("phase", each["pcr"]) == each["moments"][-1]["values"]
    assert not other.opened


def test_the_right_root_under_another_kernel_does_not(
    toolbox: Toolbox, parts: Parts, sealed: Sealed, right: Boot
) -> None:
    """It extends the PCR of the root by the same text. That PCR alone would give the key to it."""
    other = _boot(toolbox, parts, sealed.directory, sealed.volume, firmware=False)
    assert other.said("code") == ["0"], other.messages
    assert other.pcr("root", PCR) == right.pcr("root", PCR)
    assert other.pcr("root", 4) != right.pcr("root", 4)
    assert not other.opened


# ---- other stubs, other profiles


def _measured(toolbox: Toolbox, parts: Parts, sealed: Sealed, disk: Path) -> Boot:
    return _boot(toolbox, replace(parts, disk=disk), sealed.directory, sealed.volume)


@pytest.mark.all_only
@pytest.mark.parametrize(
    ("suite", "version"),
    [(suites.OLDEST, "252"), (suites.OLDEST_BACKPORTS, "254"), (suites.LATER[-1], "2")],
)
def test_an_older_and_a_newer_stub(
    toolbox: Toolbox, parts: Parts, sealed: Sealed, tmp_path: Path, suite: str, version: str
) -> None:
    """All that a suite has beside the stable one's. 252 measures fewer sections: ukify gives the
    UKI .uname and .sbat all the same."""
    uki, disk, tree = (tmp_path / name for name in ("uki.efi", "disk", "stub"))
    tree.mkdir()
    try:
        toolbox.fetch(suite, ["systemd-boot-efi"], tree)
    except SuiteGoneError as error:
        pytest.skip(str(error))
    build_uki(
        toolbox, parts.kernel, uki, initrd=parts.initrd, cmdline=COMMAND_LINE,
        stub=tree / STUBS / TARGET.stub,
    )  # fmt: skip
    names = {section.name for section in Uki(uki).sections}
    assert {".uname", ".sbat"} <= names
    boot_disk(
        toolbox, disk, uki, parts.root.disk("ext4"), esp_partuuid=ESP, root_partuuid=ROOT
    )  # fmt: skip
    there = _measured(toolbox, parts, sealed, disk)
    arguments = ["--json", "--pcr", "4", "--pcr", "11", "--phase", ":"]
    about = json.loads(predicted(*arguments, str(uki)))
    assert about["stub"].startswith(version)
    for each in about["pcrs"]:
        assert there.pcr("stub", each["pcr"]) == each["moments"][0]["values"]


@pytest.mark.all_only
def test_another_profile_is_in_pcr_12_too(
    toolbox: Toolbox, parts: Parts, sealed: Sealed, tmp_path: Path
) -> None:
    """systemd-boot measures the option by which it chooses the profile, and the stub the number."""
    disk, settings = tmp_path / "disk", tmp_path / "loader.conf"
    loader = toolbox.guest_path(STUBS) / TARGET.stub.replace("linux", "systemd-boot").removesuffix(
        ".stub"
    )
    settings.write_text("timeout 0\ndefault test.efi@other\n")
    files = {"EFI/Linux/test.efi": parts.uki, "loader/loader.conf": settings}
    boot_disk(
        toolbox, disk, loader, parts.root.disk("ext4"), esp_partuuid=ESP, root_partuuid=ROOT,
        files=files,
    )  # fmt: skip
    there = _measured(toolbox, parts, sealed, disk)
    arguments = ["--json", "--pcr", "4", "--pcr", "11", "--phase", ":", "--loader", str(loader)]
    about = json.loads(predicted(*arguments, "--profile", "1", str(parts.uki)))
    for each in about["pcrs"]:
        assert there.pcr("stub", each["pcr"]) == each["moments"][0]["values"]
    for bank, found in there.pcr("stub", 12).items():
        value = bytes(hashlib.new(bank).digest_size)
        for text in ("@1\0", "1\0"):
            digest = hashlib.new(bank, text.encode("utf-16-le")).digest()
            value = hashlib.new(bank, value + digest).digest()
        assert found == value.hex()
    for pcr in (8, 13, 15):
        assert not int("".join(there.pcr("stub", pcr).values()), 16)


# ---- systemd's own tools


def _systemd(program: str, *arguments: str) -> str:
    """A program of Debian's stable suite, run here by its own loader."""
    tree = dracut.machine(dracut.STABLE)
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    return subprocess.run(
        [
            tree / "usr/lib64/ld-linux-x86-64.so.2", "--library-path",
            f"{libraries}:{libraries / 'systemd'}", tree / "usr/lib/systemd" / program, *arguments,
        ],
        stdout=subprocess.PIPE, text=True, timeout=600, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("profile", [0, 1])
def test_pcr_11_is_that_of_systemd_measure(parts: Parts, tmp_path: Path, profile: int) -> None:
    uki = Uki(parts.uki)
    sections = []
    for name in ("linux", "osrel", "cmdline", "initrd", "uname", "sbat", "profile"):
        content = uki.read(f".{name}", profile)
        if content is None:
            content = uki.read(f".{name}", _cfs.PE_BASE)
        if content is not None:
            (tmp_path / name).write_bytes(content)
            sections.append(f"--{name}={tmp_path / name}")
    measured = json.loads(_systemd("systemd-measure", "calculate", "--json=short", *sections))
    arguments = ["--json", "--pcr", "11", "--profile", str(profile)]
    [eleven] = json.loads(predicted(*arguments, str(parts.uki)))["pcrs"]
    for bank in BANKS:
        assert {row["phase"]: row["hash"] for row in measured[bank]} == {
            moment["after"]: moment["values"][bank] for moment in eleven["moments"]
        }


def test_the_component_of_pcrlock_is_its_own(
    toolbox: Toolbox, parts: Parts, tmp_path: Path
) -> None:
    """Of a UKI without profiles, which it does not know, and with Secure Boot: it has no event for
    the kernel."""
    uki, component = tmp_path / "uki.efi", tmp_path / "component"
    toolbox.run(
        "ukify", "build", f"--linux={parts.kernel.vmlinuz}", f"--uname={parts.kernel.version}",
        f"--stub={toolbox.guest_path(STUBS) / TARGET.stub}", "--cmdline=quiet",
        "--os-release=ID=test\n",
        f"--output={uki}",
    )  # fmt: skip
    _systemd("systemd-pcrlock", "lock-uki", str(uki), f"--pcrlock={component}")
    arguments = ["--pcr", "4", "--pcr", "11", "--secure-boot", "yes", "--format", "pcrlock"]
    assert json.loads(predicted(*arguments, str(uki))) == json.loads(component.read_text())
