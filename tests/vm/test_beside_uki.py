# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A UKI of dracut's on a machine where others chose all that nobody signs: what lies beside it on
the ESP, what the firmware hands to systemd, and what the boots before have left on the disk.

systemd-sysext is in the initrd, which dracut puts there for those only who want it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.demo.command import product

from . import dracut
from .credentials import NO_CREDENTIALS, by_fw_cfg, by_smbios, credentials, unit
from .disks import overlay
from .dracut import TOML, initrd
from .guest import COMMAND_LINE, Disk, Firmware, boot, sign
from .images import Member, erofs
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .toolbox import Toolbox
from .uki import BOOT_PATH, boot_disk, build_addon, build_uki

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")

ESP = "cf500000-0000-4000-8000-000000000021"
ROOT = "cf500000-0000-4000-8000-000000000022"
LIMIT = 480
WORD = "bait=addon"
CONFIGURATION = '[etc]\nmount = "transient"\n[var]\nmount = "transient-disk"\n'

FSTAB = {"fstab.extra": "tmpfs /run/bait tmpfs x-initrd.mount 0 0\n"}
# In a directory of an earlier boot; so many that they take longer than the switch of the root.
DIRECTORIES, NAMES = 100, 200
REPORT = """
places=/sysroot/state/deploy/DIGEST/var.transient
echo "at first: $(ls $places | wc -l)"
tries=0
until [ "$(ls $places | wc -l)" = 1 ] || [ $tries = 120 ]; do tries=$((tries + 1)); sleep 1; done
echo "at last: $(ls $places | tr '\\n' ' ')"
echo "boot: $(cat /proc/sys/kernel/random/boot_id)"
systemctl is-system-running --wait
systemctl list-units --failed --plain --no-legend | sed 's/^/failed: /'
echo "hostname: $(cat /etc/hostname)"
echo "command line: $(cat /proc/cmdline)"
echo "mounted: $(findmnt -n /run/bait)"
journalctl -b --no-pager -o cat | sed 's/^/journal: /'
"""


def for_esp(texts: Mapping[str, str], directory: Path) -> dict[str, Path]:
    """Files that the stub takes: encrypted, with the key that everybody has."""
    files = {}
    for name, text in texts.items():
        path = directory / f"{name}.cred"
        made = subprocess.run(
            ["chroot", dracut.machine(dracut.STABLE), "systemd-creds", "encrypt", "--quiet",
             "--with-key=null", f"--name={name}", "-", "-"],
            input=text.encode(), stdout=subprocess.PIPE, check=True, timeout=600,
        ).stdout  # fmt: skip
        path.write_bytes(made)
        files[path.name] = path
    return files


def extension(toolbox: Toolbox, directory: Path, kind: str, place: str) -> dict[str, Path]:
    """Another file that the stub takes: "sysext" or "confext"; it has a unit."""
    name = f"bait-{kind}"
    members = [
        Member(f"{place}/extension-release.d/extension-release.{name}", b"ID=_any\n"),
        Member(f"{place}/systemd/system/{name}.service", unit(kind).encode()),
    ]
    file = f"{name}.{kind}.raw"
    return {file: erofs(toolbox, directory / file, members)}


def addon(toolbox: Toolbox, directory: Path) -> dict[str, Path]:
    """A third: more words for the command line. Nobody has signed it."""
    file = directory / "bait.addon.efi"
    return {file.name: build_addon(toolbox, file, cmdline=WORD)}


def beside(toolbox: Toolbox, directory: Path) -> dict[str, Path]:
    """For the ESP: what belongs to the one UKI, and what belongs to all."""
    own = for_esp(credentials("own"), directory)
    own |= addon(toolbox, directory)
    own |= extension(toolbox, directory, "sysext", "usr/lib")
    own |= extension(toolbox, directory, "confext", "etc")
    every = for_esp(credentials("every"), directory)
    files = {f"{BOOT_PATH}.extra.d/{name}": path for name, path in own.items()}
    return files | {f"loader/credentials/{name}": path for name, path in every.items()}


def partition(toolbox: Toolbox, root: SystemdRoot, directory: Path) -> Path:
    """The root's, with the transient /var of an earlier boot."""
    copy, empty, commands = (directory / name for name in ("partition", "empty", "commands"))
    subprocess.run(["cp", "--sparse=always", root.disk, copy], check=True, timeout=600)
    empty.touch()
    place = f"/state/deploy/{root.first.digest}/var.transient/earlier"
    parents = place.split("/")
    lines = [f"mkdir {'/'.join(parents[: depth + 1])}" for depth in range(2, len(parents))]
    for number in range(DIRECTORIES):
        lines += [f"mkdir {place}/{number}", f"cd {place}/{number}"]
        lines += [f"write {empty} {name}" for name in range(NAMES)]
    commands.write_text("\n".join(lines) + "\n")
    toolbox.run("debugfs", "-w", "-f", commands, copy)
    return copy


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.mark.parametrize(
    "signed",
    [
        pytest.param(True, id="signed"),
        pytest.param(False, id="control", marks=pytest.mark.all_only),
    ],
)
def test_nothing_beside_a_uki_changes_what_boots(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path, signed: bool
) -> None:
    """Under Secure Boot, with the word of our recipes on the command line. Without both, an add-on
    adds words, and the firmware's credentials run and mount what they like."""
    kernel = toolbox.kernel("stable")
    made = initrd(
        dracut.STABLE, kernel, {TOML: CONFIGURATION}, add=("cfs", "systemd-sysext", "qemu")
    )
    plain, uki = tmp_path / "plain.efi", tmp_path / "sealed.efi"
    build_uki(
        toolbox, kernel, plain, initrd=made.data,
        cmdline=f"{COMMAND_LINE} root=PARTUUID={ROOT} rw systemd.gpt_auto=0 noresume nohibernate "
        f"{NO_CREDENTIALS if signed else ''}",
    )  # fmt: skip
    product("cfs-uki", "seal", "--digest", root.first.digest, str(plain), "-o", str(uki))
    if signed:
        uki = sign(toolbox, uki, tmp_path / "signed.efi")
    base = tmp_path / "base"
    boot_disk(
        toolbox, base, uki, partition(toolbox, root, tmp_path), esp_partuuid=ESP,
        root_partuuid=ROOT, files=beside(toolbox, tmp_path),
    )  # fmt: skip
    script = script_disk(tmp_path / "script", REPORT.replace("DIGEST", root.first.digest))
    console = boot(
        toolbox,
        disks=[
            Disk(overlay(toolbox, base, tmp_path / "disk"), format="qcow2"),
            Disk(script, read_only=True),
        ],
        memory=1024, limit=LIMIT, log=tmp_path / "log",
        firmware=Firmware(secure_boot=signed),
        arguments=[*by_smbios(credentials("smbios")), *by_fw_cfg(FSTAB, tmp_path)],
    )  # fmt: skip
    shutil.rmtree(tmp_path / "disk", ignore_errors=True)
    said = console.results.decode(errors="replace")
    assert not console.timed_out, console.tail
    assert "hostname: first\n" in said, console.tail
    # The extensions are those of the initrd's own /.extra; systemd takes signed ones there.
    for kind in ("sysext", "confext"):
        assert f"/.extra/{kind}/bait-{kind}.{kind}.raw: Image does not match image policy." in said
    # What the boot before has left is removed after systemd has killed what the initrd had.
    [ours] = re.findall(r"^at last: (\S+) $", said, re.MULTILINE)
    assert f"boot: {ours}\n" in said
    received = re.findall(r"^journal: Received .* credentials: (.*)$", said, re.MULTILINE)
    ran = set(re.findall(r"bait: (\w+)", console.text))
    words = re.findall(r"^command line: (.*)$", said, re.MULTILINE)[0].split()
    assert (WORD in words) != signed
    if signed:
        assert not ran
        assert not received
        assert "mounted: \n" in said
    else:
        assert ran == {"smbios"}  # the others are not decrypted without libcrypto
        assert "bait-own" in str(received)
        assert "bait-every" in str(received)
        assert re.search(r"^mounted: /run/bait ", said, re.MULTILINE)
    failed = re.findall(r"^failed: (\S+)", said, re.MULTILINE)
    assert set(failed) == {"systemd-confext.service", "systemd-sysext.service"}


_VARIABLE = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67"
# As systemd writes it before it hibernates; the partition of the root plays the swap's part.
PLANT = f"""
. /etc/os-release
location="{{\\"uuid\\":\\"$(findmnt -n -o UUID /sysroot)\\",\\"offset\\":0"
location="$location,\\"kernelVersion\\":\\"$(uname -r)\\""
location="$location,\\"osReleaseId\\":\\"$ID\\",\\"osReleaseVersionId\\":\\"$VERSION_ID\\"}}"
{{ printf '\\007\\000\\000\\000'; printf %s "$location" | iconv -t UTF-16LE; printf '\\000\\000'
}} >/run/variable
cat /run/variable >/sys/firmware/efi/efivars/{_VARIABLE}
echo "planted: $location"
"""
RESUMED = """
journalctl -b --no-pager -o short | grep hibernate-resume-generator | sed 's/^/journal: /'
"""


@pytest.mark.all_only
def test_a_variable_of_the_firmware_resumes_nothing(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path
) -> None:
    """HibernateLocation, which systemd of an initrd follows: by the words of our recipes not."""
    kernel = toolbox.kernel("stable")
    made = initrd(dracut.STABLE, kernel, {TOML: CONFIGURATION}, add=("cfs",))
    variables = tmp_path / "variables"

    def start(name: str, words: str, script: str) -> str:
        plain, uki, base = (tmp_path / f"{name}.{kind}" for kind in ("plain", "efi", "disk"))
        build_uki(
            toolbox, kernel, plain, initrd=made.data,
            cmdline=f"{COMMAND_LINE} root=PARTUUID={ROOT} rw systemd.gpt_auto=0 {words}",
        )  # fmt: skip
        product("cfs-uki", "seal", "--digest", root.first.digest, str(plain), "-o", str(uki))
        boot_disk(toolbox, base, uki, root.disk, esp_partuuid=ESP, root_partuuid=ROOT)
        archive = script_disk(tmp_path / f"{name}.script", script)
        console = boot(
            toolbox, disks=[Disk(base, discard_writes=True), Disk(archive, read_only=True)],
            memory=1024, limit=LIMIT, log=tmp_path / f"{name}.log",
            firmware=Firmware(variables=variables),
        )  # fmt: skip
        base.unlink()
        assert not console.timed_out, console.tail
        return console.results.decode(errors="replace")

    assert "planted: {" in start("plant", "noresume", PLANT)
    # The root has taken the variable away: it is planted once more.
    said = start("words", "noresume nohibernate", RESUMED + PLANT)
    assert "planted: {" in said
    lines = re.findall(r"^journal: .*\]: (.*)$", said, re.MULTILINE)
    assert set(lines) == {"Found 'noresume' on the kernel command line, exiting."}
    control = start("control", "", RESUMED)
    assert re.search(r"^journal: .*: Reported hibernation image: ", control, re.MULTILINE), control
