# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in systemd's NvPCR: dracut, systemd-stub, ukify and systemd of the newest suite, and a
TPM (swtpm). What is not to be seen so: tests/initrd/handover/test_nvpcr.py."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import write_cpio

from . import dracut
from .dracut import CARRIED, TOML, initrd
from .guest import COMMAND_LINE, Console, Disk, Firmware, boot
from .initrd import directory_entry, file_entry, link_entry
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .target import TARGET
from .toolbox import Kernel, Toolbox
from .uki import STUBS, boot_disk

pytestmark = [
    pytest.mark.all_only,
    pytest.mark.newest,
    pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root"),
]

ESP = "4e500000-0000-4000-8000-000000000011"
ROOT = "4e500000-0000-4000-8000-000000000012"
LIMIT = 480
NVPCR = "composefs.nvpcr"
CONFIGURATION = '[measure]\npcr = 8\nrequired = true\nnvpcr = "{}"\n'
# In the initrd, after ours: what systemd says of its NvPCRs is left for the root to tell.
SHOWN = "/run/nvpcrs"
WANTS = "etc/systemd/system/initrd-root-fs.target.wants"
UNIT = f"""[Unit]
DefaultDependencies=no
After=cfs-setup-root.service
Before=initrd-root-fs.target
[Service]
Type=oneshot
ExecStart=-/usr/bin/systemd-analyze nvpcrs --json=short
StandardOutput=file:{SHOWN}
StandardError=journal+console
"""
REPORT = f"""
echo "record: $(tr -d '\\n' </run/cfs/root.json)"
echo "nvpcrs: $(tr -d '\\n' <{SHOWN})"
echo "defined: $(ls /run/systemd/nvpcr | tr '\\n' ' ')"
tr '\\036' '\\n' </run/log/systemd/tpm2-measure.log | grep . | sed 's/^/log: /'
journalctl -b --no-pager -o cat -t systemd-pcrextend -t systemd-tpm2-setup -t cfs-setup-root |
    sed 's/^/journal: /'
"""
_UKIFY = """
set -e
mount --bind "$2" "$1/out"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
tree=$1
shift 2
exec chroot "$tree" ukify "$@"
"""


@dataclass(frozen=True)
class Parts:
    """What all boots have."""

    box: Toolbox
    root: SystemdRoot
    kernel: Kernel
    work: Path


@pytest.fixture(scope="module")
def parts(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    work = tmp_path_factory.mktemp("nvpcr")
    toolbox.run("openssl", "genrsa", "-out", work / "key.pem", "2048")
    toolbox.run("openssl", "rsa", "-in", work / "key.pem", "-pubout", "-out", work / "public.pem")
    return Parts(toolbox, make_systemd_root(toolbox), toolbox.kernel("stable"), work)


def build(parts: Parts, name: str, nvpcr: str, signs: bool) -> Path:
    """A UKI whose initrd asks for that NvPCR; `signs`: with what systemd 262 makes one by."""
    carried = parts.root.carried(parts.root.first)
    made = initrd(
        dracut.WITH_TPM, parts.kernel,
        {
            TOML: CONFIGURATION.format(nvpcr), CARRIED: carried,
            NVPCR: (dracut.MODULE / NVPCR).read_bytes(),
        },
        add=("cfs", "qemu"),
    )  # fmt: skip
    tree = dracut.machine(dracut.WITH_TPM)
    analyze = (tree / "usr/bin/systemd-analyze").read_bytes()
    more = write_cpio([
        file_entry("usr/bin/systemd-analyze", analyze, 0o755),
        file_entry("etc/systemd/system/show.service", UNIT),
        directory_entry(WANTS),
        link_entry(f"{WANTS}/show.service", "../show.service"),
    ])  # fmt: skip
    (parts.work / "initrd").write_bytes(made.data + bytes(-len(made.data) % 4) + more)
    shutil.copyfile(parts.kernel.vmlinuz, parts.work / "linux")
    cmdline = f"{COMMAND_LINE} root=PARTUUID={ROOT} rw systemd.gpt_auto=0"
    signing = ("--pcr-private-key=/out/key.pem", "--pcr-public-key=/out/public.pem")
    subprocess.run(
        [
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _UKIFY, "sh",
            tree, parts.work, "build", "--linux=/out/linux", f"--uname={parts.kernel.version}",
            "--initrd=/out/initrd", f"--cmdline={cmdline}", "--os-release=ID=test\n",
            f"--stub=/{STUBS}/{TARGET.stub}",
            *((*signing, "--pcr-banks=sha256", "--sign-initrd-pcrs") if signs else ()),
            f"--output=/out/{name}.efi",
        ],
        check=True, timeout=600,
    )  # fmt: skip
    return parts.work / f"{name}.efi"


def start(parts: Parts, name: str, uki: Path) -> Console:
    disk = parts.work / "disk"
    boot_disk(parts.box, disk, uki, parts.root.disk, esp_partuuid=ESP, root_partuuid=ROOT)
    script = script_disk(parts.work / "script", REPORT)
    console = boot(
        parts.box,
        disks=[Disk(disk, discard_writes=True), Disk(script, read_only=True)],
        memory=1024, limit=LIMIT, log=parts.work / f"{name}.log",
        firmware=Firmware(tpm=parts.work / f"{name}.tpm"),
    )  # fmt: skip
    disk.unlink()
    return console


def said(console: Console, key: str) -> list[str]:
    lines = console.results.decode(errors="replace").splitlines()
    return [line[len(key) + 2 :] for line in lines if line.startswith(f"{key}: ")]


def extended(value: bytes, by: bytes) -> bytes:
    return hashlib.sha256(value + by).digest()


def test_it_is_extended(parts: Parts) -> None:
    """Behind the one write that makes it, of zeros: so the value is known before."""
    console = start(parts, "whole", build(parts, "whole", "composefs", True))
    [record] = map(json.loads, said(console, "record"))
    text = f"composefs:/:sha256:{parts.root.first.digest}:carried"
    measured = record["measured"]
    assert measured["nvpcr"] == {"name": "composefs", "string": text}
    assert (measured["pcr"], measured["string"]) == (8, text)
    definition = json.loads((dracut.MODULE / NVPCR).read_bytes())
    [shown] = map(json.loads, said(console, "nvpcrs"))
    values = {each["name"]: each for each in shown}
    assert values["composefs"]["nvindex"] == definition["nvIndex"]
    hashed = hashlib.sha256(text.encode()).digest()
    start_value = extended(bytes(32), bytes(32))
    assert values["composefs"]["value"] == extended(start_value, hashed).hex()
    assert values["verity"]["value"] == start_value.hex()
    logged = [json.loads(line) for line in said(console, "log")]
    [ours] = [each for each in logged if each.get("nv_index") == definition["nvIndex"]]
    assert ours["digests"] == [{"hashAlg": "sha256", "digest": hashed.hex()}]
    content = ours["content"]
    assert (content["nvIndexName"], content["string"]) == ("composefs", text)
    assert content["eventType"] == "filesystem"
    # It is made before it is extended, and what makes NvPCRs has ended by then.
    order = [
        number for number, each in enumerate(logged)
        if each is ours or each["content"]["string"].startswith(("nvpcr-init:composefs:0x1955af8:",
                                                                 "nvpcr-separator"))
    ]  # fmt: skip
    assert len(order) == 3
    assert logged[order[2]] is ours
    assert "not measured" not in console.text
    assert f"Extended NvPCR index 'composefs' with '{text}'." in said(console, "journal")


@pytest.mark.parametrize(
    ("name", "nvpcr", "signs"), [("undefined", "other", True), ("unsigned", "composefs", False)]
)
def test_without_one_it_warns_and_boots(parts: Parts, name: str, nvpcr: str, signs: bool) -> None:
    """The PCR, which is required, is extended all the same."""
    console = start(parts, name, build(parts, name, nvpcr, signs))
    [record] = map(json.loads, said(console, "record"))
    fault = "systemd answers io.systemd.PCRExtend.NoSuchNvPCR"
    assert record["measured"]["nvpcr"] == {"name": nvpcr, "fault": fault}
    assert "sha256" in record["measured"]["banks"]
    warning = f"warning: the root is not measured into the NvPCR {nvpcr}: {fault}"
    assert said(console, "journal").count(warning) == 1
