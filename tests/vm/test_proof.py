# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digest in a UKI's section alone: booted by firmware with a TPM 2.0 (swtpm), which proves it.

One boot has them all. The firmware tries another disk first, whose program ends: a file that was
loaded and has not run. The stub loads an add-on. Files then take the place of the UKI.
"""

import base64
import hashlib
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.initrd.machine import tpm_message
from tests.core.event_log import APPLICATION, BANKS, NO_ACTION, SIZES, authenticode

from .cases import Case, Results, boot_limit, cases_initrd
from .disks import ESP_TYPE, MIB, esp, gpt, partitioned
from .guest import BEGUN, COMMAND_LINE, Disk, Firmware, allocate_banks, boot
from .initrd import BOOT_MODULES, TPM_MODULES, configuration
from .once import BUILD
from .product import cfs_init
from .rootdisk import CARRIED, RootDisk
from .target import TARGET
from .toolbox import Toolbox
from .uki import ADDON_STUB, BOOT_PATH, STUBS, build_addon, build_uki

pytestmark = pytest.mark.vm

ESP = "9900f000-0000-4000-8000-000000000001"
ROOT = "9900f000-0000-4000-8000-000000000002"
LIMIT = 360
_PROGRAM = "usr/bin/cfs-setup-root"
_SHELL = rf"""
setup_root="cfs-setup-root --sysroot /sysroot"
boot() {{ mount --bind /disk /sysroot && $setup_root --config /etc/uki.conf; }}
down() {{ umount -l /sysroot; umount -l /sysroot; rm -rf /run/cfs; }}
proved() {{ boot || exit; echo record $(cat /run/cfs/root.json); down; }}
refused() {{ boot; echo code $?; ls /sysroot; umount /sysroot; }}
files() {{ mount -t vfat /dev/vdb1 /mnt; }}
put() {{ files && mv /mnt/{BOOT_PATH} /mnt/own && mv /mnt/$1 /mnt/{BOOT_PATH} && umount /mnt; }}
back() {{ files && mv /mnt/{BOOT_PATH} /mnt/$1 && mv /mnt/own /mnt/{BOOT_PATH} && umount /mnt; }}
instead() {{ put $1 && refused; back $1; }}
# A command for the TPM, as printf has it
send() {{
    exec 3<>/dev/tpmrm0
    printf $1 >&3
    dd bs=4096 count=1 <&3 2>/dev/null | xxd -p
    exec 3<&-
}}
pcrs() {{ for pcr in 4 11; do echo pcr $pcr $(cat /sys/class/tpm/tpm0/pcr-BANK/$pcr); done; }}
"""


def _extend(bank: str, pcr: int, word: str) -> str:
    """By systemd, or by anybody: a line of shell."""
    values = tpm_message.digests([bank], word.encode())
    command = tpm_message.extend_command(pcr, values)
    return "send " + "".join(f"\\\\{byte:03o}" for byte in command)


# Where the kernel tells that another one has started it, and by what.
_MARKED, _KEXEC = (
    ("/proc/sys/kernel/bootloader_type", "208")
    if TARGET.native
    else ("/sys/firmware/fdt", r"\0linux,booted-from-kexec\0")
)
# Each in turn; the last ones change PCRs for good.
CASES = {
    "log": "pcrs; mount -t securityfs none /mnt; base64 /mnt/tpm0/binary_bios_measurements"
    "; umount /mnt",
    "proved": "proved",
    "replaced": "instead changed.efi",
    "addon": "instead addon.efi",
    "loaded-before": "instead before.efi",
    "cut": f"files && head -c 1000000 /mnt/{BOOT_PATH} >/mnt/cut; umount /mnt; instead cut",
    "absent": "files && mv /mnt/EFI /mnt/away && umount /mnt; refused; files"
    "; mv /mnt/away /mnt/EFI; umount /mnt",
    # Another root's than the section's, and then the same.
    "carried-other": f"mkdir -p /{CARRIED}; rmdir /{CARRIED}; cp /etc/other /{CARRIED}; refused"
    f"; rm /{CARRIED}",
    "carried-same": f"cp /etc/whole /{CARRIED}; proved; rm /{CARRIED}",
    # What root can put over the log is not seen.
    "another-log": "mount -t securityfs none /sys/kernel/security && echo nothing >/run/log"
    "; mount --bind /run/log /sys/kernel/security/tpm0/binary_bios_measurements && proved"
    "; umount /sys/kernel/security/tpm0/binary_bios_measurements; umount /sys/kernel/security",
    "no-tpm": "mount -t tmpfs tmpfs /sys/class/tpm; refused; umount /sys/class/tpm",
    "sha1-alone": "mount -t tmpfs tmpfs /sys/class/tpm && mkdir -p /sys/class/tpm/tpm0/pcr-sha1"
    "; refused; umount /sys/class/tpm",
    "kexec": f"printf '{_KEXEC}' >/run/mark; mount --bind /run/mark {_MARKED}; refused"
    f"; umount {_MARKED}",
    "phases": "EXTEND 11 enter-initrd; EXTEND 4 os-separator; proved; pcrs",
    "pcr-11": "EXTEND 11 sysinit; refused",
    "pcr-4": "EXTEND 4 sysinit; refused",
}
PROVED = ("proved", "carried-same", "another-log", "phases")


@dataclass(frozen=True)
class Boot:
    """A stub, a TPM, and what they made of the cases."""

    bank: str
    files: dict[str, Path]
    results: Results


def _cases(bank: str) -> list[Case]:
    """For a TPM with this bank."""

    def line(found: re.Match[str]) -> str:
        return _extend(bank, int(found[1]), found[2])

    return [
        Case(
            name, re.sub(r"EXTEND (\d+) ([\w-]+)", line, _SHELL.replace("BANK", bank) + script), 60
        )
        for name, script in CASES.items()
    ]


def _section(rootdisk: RootDisk, directory: Path, name: str) -> dict[str, Path]:
    path = directory / f"{name}.section"
    path.write_bytes(rootdisk.carried(name))
    return {".cfsdig": path}


def _files(
    toolbox: Toolbox, rootdisk: RootDisk, directory: Path, bank: str, newest: bool
) -> dict[str, Path]:
    kernel = toolbox.kernel("stable")
    initrd = cases_initrd(
        toolbox,
        kernel,
        _cases(bank),
        setup="mkdir -p /disk /sysroot && mount -t ext4 -o ro /dev/vdb2 /disk",
        modules=(*BOOT_MODULES, *TPM_MODULES),
        files={
            _PROGRAM: cfs_init(),
            "etc/uki.conf": configuration(digest_source="uki", etc="none", var="none"),
            "etc/whole": rootdisk.carried("whole"),
            "etc/other": rootdisk.carried("no-var"),
        },
    )
    stubs = toolbox.newest_stubs if newest else toolbox.guest_path(STUBS)
    stub, addon = stubs / TARGET.stub, stubs / ADDON_STUB
    words = f"{COMMAND_LINE} loglevel=4"
    own, other = (_section(rootdisk, directory, name) for name in ("whole", "no-var"))
    made = {name: directory / f"{name}.efi" for name in ("own", "changed", "before", "addon")}
    for name, sections, used in (
        ("own", own, stub),
        ("changed", other, stub),
        ("before", other, addon),
    ):
        build_uki(
            toolbox, kernel, made[name], initrd=initrd, cmdline=words, sections=sections, stub=used
        )
    build_addon(toolbox, made["addon"], cmdline="from=addon", sections=other, stub=addon)
    return made


_NEWEST = pytest.param(("sha384", True), id="newest-sha384", marks=pytest.mark.all_only)


@pytest.fixture(scope="module", params=[pytest.param(("sha256", False), id="stable"), _NEWEST])
def booted(
    toolbox: Toolbox, rootdisk: RootDisk, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Boot:  # fmt: skip
    directory = tmp_path_factory.mktemp("boot")
    bank, newest = request.param
    files = _files(toolbox, rootdisk, directory, bank, newest)
    if newest:
        allocate_banks(toolbox, directory / "tpm", bank)
    first = esp(toolbox, directory / "first", {BOOT_PATH: files["before"]})
    partitioned(toolbox, directory / "disk-before", [(ESP_TYPE, "R", first)])
    second = esp(
        toolbox,
        directory / "second",
        {
            BOOT_PATH: files["own"],
            f"{BOOT_PATH}.extra.d/x.addon.efi": files["addon"],
            **{f"{name}.efi": files[name] for name in ("addon", "before", "changed")},
        },
        size=256 * MIB,
    )
    gpt(
        toolbox, directory / "disk", esp_image=second, root_image=rootdisk.disk("ext4"),
        esp_partuuid=ESP, root_partuuid=ROOT,
    )  # fmt: skip
    cases = _cases(bank)
    console = boot(
        toolbox,
        disks=[Disk(directory / name, discard_writes=True) for name in ("disk-before", "disk")],
        firmware=Firmware(tpm=directory / "tpm"),
        memory=1024,
        limit=boot_limit(cases),
        begun=BEGUN,
        log=directory / "log",
    )
    for name in ("disk", "disk-before", "first", "second"):
        (directory / name).unlink()
    return Boot(bank, files, Results(console, cases))


def _said(text: str, key: str) -> list[str]:
    return [line[len(key) + 1 :] for line in text.splitlines() if line.startswith(f"{key} ")]


def _events(log: bytes, bank: str) -> list[tuple[int, int, bytes]]:
    """PCR, type and digest, read as simply as can be."""
    (size,) = struct.unpack_from("<I", log, 28)
    found, at = [], 32 + size
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        for _ in range(count):
            (name,) = struct.unpack_from("<H", log, at)
            if name == BANKS[bank]:
                found.append((pcr, kind, log[at + 2 : at + 2 + SIZES[name]]))
            at += 2 + SIZES[name]
        (size,) = struct.unpack_from("<I", log, at)
        at += 4 + size
    return found


def _keep(booted: Boot, log: bytes, pcrs: list[str]) -> None:
    """In build/event-logs, for tests/core/parse/logs: they are of use without a guest."""
    directory = BUILD / "event-logs"
    directory.mkdir(exist_ok=True)
    uki = booted.files["own"].read_bytes()
    version = re.search(rb"systemd-stub,1,The systemd Developers,systemd,(\d+)", uki)
    name = f"systemd-{version[1].decode() if version else 'unknown'}"
    values = {pcr: value.lower() for pcr, value in map(str.split, pcrs)}
    known = {"bank": booted.bank, "pcrs": values, "image": authenticode(uki, booted.bank).hex()}
    (directory / f"{name}.log").write_bytes(log)
    (directory / f"{name}.json").write_text(json.dumps(known, indent=1) + "\n")


def test_the_log_is_what_it_is_taken_for(booted: Boot) -> None:
    """Each of the files was loaded but the one that was changed. The one that ran is the last in
    front of the sections; the hash of all is that of the firmware."""
    text, bank = booted.results.check("log").stdout, booted.bank
    log = base64.b64decode("".join(line for line in text.splitlines() if line[:4] != "pcr "))
    events = _events(log, bank)
    sections = [number for number, event in enumerate(events) if event[0] == 11]
    applications = {
        digest: number
        for number, (pcr, kind, digest) in enumerate(events)
        if (pcr, kind) == (4, APPLICATION)
    }
    _keep(booted, log, _said(text, "pcr"))
    hashes = {name: authenticode(path.read_bytes(), bank) for name, path in booted.files.items()}
    before, own, addon = (applications[hashes[name]] for name in ("before", "own", "addon"))
    assert before < own < sections[0] < sections[-1] < addon
    assert not [number for number in applications.values() if own < number < sections[0]]
    assert hashes["changed"] not in applications
    for pcr in (4, 11):
        value = bytes(SIZES[BANKS[bank]])
        for one, kind, digest in events:
            if one == pcr and kind != NO_ACTION:
                value = hashlib.new(bank, value + digest).digest()
        assert f"{pcr} {value.hex()}" in [line.lower() for line in _said(text, "pcr")]


@pytest.mark.parametrize("name", PROVED)
def test_the_root_is_booted_by_the_section_alone(
    booted: Boot, rootdisk: RootDisk, name: str
) -> None:
    [record] = map(json.loads, _said(booted.results.check(name).stdout, "record"))
    assert (record["source"], record["level"]) == ("uki", "proved")
    assert record["digest"] == f"sha256:{rootdisk.digests['whole']}"
    assert record["uki"] == f"proved: /dev/vdb1:/{BOOT_PATH}"


REFUSALS = {
    "replaced": r"/dev/vdb1:\S+: not proved: Authenticode sha\d+ \w+, expected \w+ of the "
    "image that ran",
    "addon": r"/dev/vdb1:\S+: not proved: Authenticode sha\d+ \w+, expected \w+ of the image",
    "loaded-before": r"/dev/vdb1:\S+: not proved: Authenticode sha\d+ \w+, expected \w+ of",
    "cut": r"/dev/vdb1:\S+: not proved: section: data beyond the file",
    "absent": r"/dev/vdb1:\S+: not proved: .*ENOENT",
    "carried-other": r"/usr/lib/composefs/rootfs.digest: sha256:\w{64}, expected sha256:\w{64}",
    "no-tpm": "/sys/class/tpm/tpm0: not proved: no TPM 2.0",
    "sha1-alone": "/sys/class/tpm/tpm0: not proved: .* a bank of SHA-1 alone",
    "kexec": "UKI: not proved: this kernel was started by kexec",
    "pcr-11": r"PCR 11: not proved: \w+, expected \w+ by the event log",
    "pcr-4": r"PCR 4: not proved: \w+, expected \w+ by the event log",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_proved_is_refused(booted: Boot, name: str) -> None:
    result = booted.results.check(name)
    assert _said(result.stdout, "code") == ["32"]
    assert "composefs" in result.stdout  # the disk, at /sysroot
    [line] = [line for line in result.stderr.splitlines() if "refused: " in line]
    assert line.startswith("cfs-setup-root: refused: source: ")

    assert re.search(REFUSALS[name], line), line
