# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digest in a UKI's section alone, under Secure Boot with keys of one's own: by way of
systemd-boot and of shim, with files of the same name on other ESPs.

All that is started is signed. So is the other UKI, one of an older image for instance.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.demo.command import product

from . import suites
from .cases import Case, Results, boot_limit, cases_initrd
from .disks import ESP_TYPE, ROOT_TYPE, esp, partitioned
from .guest import BEGUN, COMMAND_LINE, Disk, Firmware, boot, sign
from .initrd import BOOT_MODULES, TPM_MODULES, configuration
from .product import cfs_init
from .rootdisk import RootDisk
from .target import TARGET
from .toolbox import Toolbox
from .uki import BOOT_PATH, STUBS, build_uki

pytestmark = [pytest.mark.vm, pytest.mark.all_only]

ESP = "9900f000-0000-4000-8000-000000000011"
OTHER = "9900f000-0000-4000-8000-000000000012"
LOADER = f"{STUBS}/{TARGET.stub.replace('linux', 'systemd-boot').removesuffix('.stub')}"
SHIM = f"usr/lib/shim/{TARGET.boot_file.lower().replace('boot', 'shim')}"
# Where systemd-boot looks for UKIs, and what shim starts.
BY_LOADER = "EFI/Linux/test.efi"
BY_SHIM = f"EFI/BOOT/{TARGET.boot_file.lower().replace('boot', 'grub')}"

DISKS = ("booted", "root", "other", "clone")
"""In the guest /dev/vda and so on. `other` and `clone` have another UKI by the same path, and
`clone` the UUID of the partition that was booted from."""
_SETUP = """
mkdir -p /disk /sysroot && mount -t ext4 -o ro /dev/vdb1 /disk || exit
for name in vda vdc vdd; do basename $(readlink /sys/block/$name/device) >/run/$name; done
cat /run/vdd >/sys/bus/virtio/drivers/virtio_blk/unbind
"""
_SHELL = r"""
boot() { mount --bind /disk /sysroot && cfs-setup-root --sysroot /sysroot --config /etc/uki.conf; }
proved() { boot || exit; echo record $(cat /run/cfs/root.json); umount -l /sysroot
    umount -l /sysroot; rm -rf /run/cfs; }
refused() { boot; echo code $?; ls /sysroot; umount /sysroot; }
driver() { cat /run/$2 >/sys/bus/virtio/drivers/virtio_blk/$1; }
"""
# Each in turn, with the disks that the one before has left.
CASES = {
    "pcrs": "for pcr in 4 11; do echo pcr $pcr $(cat /sys/class/tpm/tpm0/pcr-sha256/$pcr); done",
    "proved": "proved",
    "cloned": "driver bind vdd; refused",
    "clone-alone": "driver unbind vda; refused",
    "other-alone": "driver unbind vdd; refused",
    "back": "driver bind vda; proved",
}


@dataclass(frozen=True)
class Chain:
    """What the firmware starts, and what that starts; the UKI is the last."""

    programs: tuple[str, ...]
    path: str
    """Of the UKI."""


CHAINS = {
    "systemd-boot": Chain(("systemd-boot",), BY_LOADER),
    "shim": Chain(("shim",), BY_SHIM),
    "shim-systemd-boot": Chain(("shim", "systemd-boot"), BY_LOADER),
}
_PLACES = (BOOT_PATH, BY_SHIM)
"""Of the programs."""


@dataclass(frozen=True)
class Parts:
    """Signed: the programs by name, and both UKIs."""

    programs: Mapping[str, Path]
    own: Path
    other: Path


@dataclass(frozen=True)
class Boot:
    """A chain, and what came of it."""

    chain: Chain
    predicted: dict[int, str]
    """By PCR, in the bank of SHA-256."""
    results: Results


@pytest.fixture(scope="module")
def parts(toolbox: Toolbox, rootdisk: RootDisk, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    directory = tmp_path_factory.mktemp("signed")
    tree = directory / "shim"
    tree.mkdir()
    toolbox.fetch(suites.STABLE, ["shim-unsigned"], tree)
    kernel = toolbox.kernel("stable")
    initrd = cases_initrd(
        toolbox,
        kernel,
        _cases(),
        setup=_SETUP,
        modules=(*BOOT_MODULES, *TPM_MODULES),
        files={
            "usr/bin/cfs-setup-root": cfs_init(),
            "etc/uki.conf": configuration(digest_source="uki", etc="none", var="none"),
        },
    )
    made = {}
    for name, image in (("own", "whole"), ("other", "no-var")):
        section, plain = directory / f"{name}.section", directory / f"{name}.plain"
        section.write_bytes(rootdisk.carried(image))
        build_uki(
            toolbox, kernel, plain, initrd=initrd, cmdline=f"{COMMAND_LINE} loglevel=4",
            sections={".cfsdig": section},
        )  # fmt: skip
        made[name] = sign(toolbox, plain, directory / f"{name}.efi")
    programs = {
        name: sign(toolbox, path, directory / f"{name}.efi")
        for name, path in (("shim", tree / SHIM), ("systemd-boot", toolbox.guest_path(LOADER)))
    }
    return Parts(programs, made["own"], made["other"])


def _cases() -> list[Case]:
    return [Case(name, _SHELL + script, 60) for name, script in CASES.items()]


@pytest.fixture(scope="module", params=CHAINS)
def booted(
    toolbox: Toolbox, rootdisk: RootDisk, parts: Parts, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Boot:  # fmt: skip
    directory, chain = tmp_path_factory.mktemp("boot"), CHAINS[request.param]
    settings = directory / "loader.conf"
    settings.write_text("timeout 0\n")
    programs = [parts.programs[name] for name in chain.programs]
    files = {**dict(zip(_PLACES, programs, strict=False)), "loader/loader.conf": settings}
    for name, uki in (("booted", parts.own), ("other", parts.other)):
        esp(toolbox, directory / f"{name}.esp", {**files, chain.path: uki}, size=128 << 20)
    for name, kind, uuid, image in (
        ("booted", ESP_TYPE, ESP, directory / "booted.esp"),
        ("root", ROOT_TYPE, "R", rootdisk.disk("ext4")),
        ("other", ESP_TYPE, OTHER, directory / "other.esp"),
        ("clone", ESP_TYPE, ESP, directory / "other.esp"),
    ):
        partitioned(toolbox, directory / name, [(kind, uuid, image)])
    cases = _cases()
    console = boot(
        toolbox,
        disks=[Disk(directory / name, discard_writes=True) for name in DISKS],
        firmware=Firmware(secure_boot=True, tpm=directory / "tpm"),
        memory=1024,
        limit=boot_limit(cases),
        begun=BEGUN,
        log=directory / "log",
    )
    for path in (*(directory / name for name in DISKS), *directory.glob("*.esp")):
        path.unlink()
    arguments = [argument for path in programs for argument in ("--loader", str(path))]
    about = json.loads(
        product(
            "cfs-uki", "predict", "--json", "--bank", "sha256", "--pcr", "4", "--pcr", "11",
            "--phase", ":", *arguments, str(parts.own),
        )
    )  # fmt: skip
    predicted = {each["pcr"]: each["moments"][0]["values"]["sha256"] for each in about["pcrs"]}
    return Boot(chain, predicted, Results(console, cases))


def _said(text: str, key: str) -> list[str]:
    return [line[len(key) + 1 :] for line in text.splitlines() if line.startswith(f"{key} ")]


def test_the_pcrs_are_as_predicted(booted: Boot) -> None:
    found = (line.split() for line in _said(booted.results.check("pcrs").stdout, "pcr"))
    assert {int(pcr): value.lower() for pcr, value in found} == booted.predicted
    assert set(booted.predicted) == {4, 11}


@pytest.mark.parametrize("name", ["proved", "back"])
def test_the_file_that_was_booted_is_proved(booted: Boot, rootdisk: RootDisk, name: str) -> None:
    """Another ESP has a file of that name, which another disk was booted by."""
    [record] = map(json.loads, _said(booted.results.check(name).stdout, "record"))
    assert (record["source"], record["level"]) == ("uki", "proved")
    assert record["digest"] == f"sha256:{rootdisk.digests['whole']}"
    assert record["uki"] == f"proved: /dev/vda1:/{booted.chain.path}"
    assert record["secure_boot"] == "on"


REFUSALS = {
    "cloned": rf"ESP PARTUUID={ESP.upper()}: on /dev/vda1 and /dev/vdd1",
    "clone-alone": r"Authenticode sha256 \w{64}, expected \w{64} of the image that ran",
    "other-alone": rf"ESP PARTUUID={ESP.upper()}: not found after 5 s",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_file_that_was_not_booted_is_not_taken(booted: Boot, name: str) -> None:
    result = booted.results.check(name)
    assert _said(result.stdout, "code") == ["32"]
    assert "composefs" in result.stdout  # the disk, at /sysroot
    [line] = [line for line in result.stderr.splitlines() if "refused: " in line]
    assert re.match(rf"cfs-setup-root: refused: source: \S+: not proved: {REFUSALS[name]}", line)
