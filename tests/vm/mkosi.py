# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk made by mkosi with our module, sealed, and booted once, for all who ask what it says.

mkosi and the kernel are Debian stable's (25 and 6.12 in November 2026); what is built is kept for
the same sources and configuration.
The machine that builds may have no fs-verity: cfs-seal-disk is run in a guest, as its users may do.
A second disk has the store of the test fixture; the root's /etc/fstab mounts an image of it.
"""

import functools
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pefile

from tests.demo.guest_python import python_files
from tests.docs.blocks import blocks

from . import disk_watch, machine
from .apt import keyring, machine_acquire_settings, machine_mirror
from .bundle import bundle
from .cases import Case, run_cases
from .guest import Console, Disk, Firmware, boot
from .once import BUILD, REPOSITORY, STAMP, made_once
from .store import make_store
from .toolbox import Toolbox

_CACHE = BUILD / "vm-cache"

# What the tests need beside what the page tells people to write. The package cache is for tests
# that are run again.
MORE = """
[Content]
Packages=
        mount
        util-linux
KernelCommandLine=no_timer_check

[Build]
Incremental=yes
CacheDirectory=/cache
PackageCacheDirectory=/cache
"""
SERVICE = """
[Unit]
Description=The test
[Service]
Type=simple
ExecStart=/usr/libexec/report
"""
FSTAB = """
/dev/vdb /mnt ext4 ro,nofail,x-systemd.device-timeout=300s 0 0
/mnt/repo /srv cfs digest={digest},nodev,nofail,x-systemd.requires-mounts-for=/mnt 0 0
"""
# Each part of the report begins with "== NAME" and ends with "== NAME: EXIT CODE".
REPORT = """#!/bin/sh
digest={digest}
part() {{ # NAME SCRIPT
	echo "== $1"
	sh -c "$2"
	echo "== $1: $?"
}}
export digest
udevadm wait --timeout=600 /dev/virtio-ports/results
exec >/dev/virtio-ports/results 2>&1
part state 'systemctl is-system-running --wait'
part failed 'systemctl list-units --failed --plain --no-legend'
part record 'cat /run/cfs/root.json'
part root 'findmnt -no SOURCE,FSTYPE,OPTIONS /'
part dpkg 'dpkg-query -W systemd'
part write 'touch /usr/new'
{parts}
echo "== end"
systemctl --no-block poweroff
"""
# The init of a boot in which somebody watches the disk.
WATCHED = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin
echo "record: $(tr -d '\\n' </run/cfs/root.json)"
until [ -e /run/disk-watch ]; do sleep 1; done
echo 1 >/proc/sys/kernel/printk
sed 's,^,/run/disk-watch: ,' /run/disk-watch
stty sane </dev/console
echo o >/proc/sysrq-trigger
sleep 600
"""
SOURCES = """Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Signed-By: {keyring}
"""


@dataclass(frozen=True)
class Built:
    """What mkosi left, and the disk after cfs-seal-disk."""

    directory: Path
    sealed: Path

    @property
    def unsealed(self) -> Path:
        return self.directory / "sealed.raw"

    @property
    def initrd(self) -> Path:
        return self.directory / "sealed.initrd"

    @property
    def digest(self) -> str:
        """As sha256:..."""
        return (self.directory / "sealed.digest").read_text().strip()


@dataclass(frozen=True)
class Part:
    """A part of the report."""

    code: int
    text: str


def configuration() -> str:
    """That of the page for users, for Debian stable."""
    page = (REPOSITORY / "docs/howto/mkosi.md").read_text()
    [text] = [block.text for block in blocks(page) if block.kind == "ini"]
    return re.sub(r"(?m)^Release=\w+$", f"Release={machine.SUITE}", text)


@functools.cache
def built(toolbox: Toolbox, parts: str) -> Built:
    """The disk whose report has `parts` too. The slow way is walked once."""
    store = make_store(toolbox)
    files = {
        "mkosi.conf": configuration(),
        "mkosi.conf.d/test.conf": MORE,
        "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources":
            SOURCES.format(
                mirror=machine_mirror(), suite=machine.SUITE, keyring=keyring()
            ),
        "mkosi.sandbox/etc/apt/apt.conf.d/90machine": machine_acquire_settings(),
        "mkosi.extra/usr/lib/systemd/system/report.service": SERVICE,
        "mkosi.extra/usr/libexec/report": REPORT.format(digest=store.sha256, parts=parts),
        "mkosi.extra/usr/libexec/watched": WATCHED,
        "mkosi.extra/etc/fstab": FSTAB.format(digest=store.sha256),
    }  # fmt: skip
    tree = machine.machine()

    def make(directory: Path) -> None:
        project, workspace = directory / "project", directory / "workspace"
        workspace.mkdir()
        _write_project(project, files, tree)
        cache = _CACHE / "mkosi-cache"
        cache.mkdir(exist_ok=True)
        said = machine.run(
            tree, "cd /project && mkosi -f build",
            {project: "/project", cache: "/cache", workspace: "/var/tmp"},
        )  # fmt: skip
        (directory / "said").write_text(said)
        for name in ("sealed.raw", "sealed.digest", "sealed.efi", "sealed.initrd"):
            (project / name).rename(directory / name)
        shutil.rmtree(project)
        shutil.rmtree(workspace)

    key = repr((files, (tree.parent / STAMP).read_text()))
    directory = made_once(_CACHE / "mkosi", key, make)
    return Built(directory, _seal(toolbox, tree, directory))


def _write_project(project: Path, files: dict[str, str], tree: Path) -> None:
    """What a user writes, the report to us, and how this machine reaches its mirror."""
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("report", "watched"):
        (project / "mkosi.extra/usr/libexec" / name).chmod(0o755)
    wants = project / "mkosi.extra/usr/lib/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "report.service").symlink_to("../report.service")
    program = project / "mkosi.extra/usr/lib/composefs/cfs-init"
    program.parent.mkdir()
    shutil.copy(tree / "usr/lib/composefs/cfs-init", program)
    helper = project / "mkosi.extra/usr/sbin/mount.cfs"
    helper.parent.mkdir()
    helper.symlink_to("../lib/composefs/cfs-init")


def _seal(toolbox: Toolbox, tree: Path, directory: Path) -> Path:
    script = tree / "usr/bin/cfs-seal-disk"

    def make(target: Path) -> None:
        disk = target / "disk.raw"
        # shutil would fill the holes
        subprocess.run(
            ["cp", "--sparse=always", directory / "sealed.raw", disk], check=True, timeout=600
        )
        cases = [
            Case(
                "seal",
                "cfs-seal-disk /dev/vda",
                limit=400,
                stdout=r"^[1-9]\d* objects: [1-9]\d* se",
            ),
            Case("again", "cfs-seal-disk /dev/vda", limit=200, stdout=r"objects: 0 sealed, [1-9]"),
            Case("no-disk", "cfs-seal-disk /dev/vdz", code=2, stderr="/dev/vdz: not there"),
        ]
        results = run_cases(
            toolbox, toolbox.kernel("stable"), cases, disks=[Disk(disk)], memory=1024,
            files={
                **python_files(toolbox),
                **bundle("blkid", "usr/sbin/blkid", tree),
                **bundle("losetup", "usr/sbin/losetup", tree),
                **bundle("partx", "usr/bin/partx", tree),
                "usr/bin/cfs-store": '#!/usr/bin/busybox sh\nexec python cfs-store "$@"\n',
                "usr/bin/cfs-seal-disk": script,
            },
        )  # fmt: skip
        for case in cases:
            results.check(case.name)

    key = repr(((directory / STAMP).read_text(), script.read_text()))
    return made_once(_CACHE / "mkosi-sealed", key, make) / "disk.raw"


def start(toolbox: Toolbox, disk: Path, *more: Path) -> Console:
    """Boots it by the firmware; what is written is forgotten."""
    return boot(
        toolbox, disks=[Disk(path, discard_writes=True) for path in (disk, *more)],
        firmware=Firmware(), memory=1024, limit=400,
    )  # fmt: skip


def watched(toolbox: Toolbox, image: Built) -> Console:
    """A boot of its kernel, initrd and command line with the watcher of disk_watch.py in it."""
    uki = pefile.PE(data=(image.directory / "sealed.efi").read_bytes(), fast_load=True)
    parts = {part.Name.rstrip(b"\0").decode(): part.get_data()[: part.Misc_VirtualSize]
             for part in uki.sections}  # fmt: skip
    words = parts[".cmdline"].rstrip(b"\0\n").decode()
    with tempfile.TemporaryDirectory() as name:
        kernel = Path(name) / "linux"
        kernel.write_bytes(parts[".linux"])
        return boot(
            toolbox, kernel=kernel, initrd=disk_watch.watched(parts[".initrd"]),
            append=f"{words} {disk_watch.APPEND} init=/usr/libexec/watched",
            disks=[Disk(image.sealed, discard_writes=True)], memory=1024, limit=400,
        )  # fmt: skip


@functools.cache
def report(toolbox: Toolbox, parts: str) -> dict[str, Part]:
    """What the booted root said. AssertionError where it did not."""
    console = start(toolbox, built(toolbox, parts).sealed, make_store(toolbox).disk("ext4"))
    found: dict[str, Part] = {}
    name, text = "", ""
    for line in console.results.decode(errors="replace").replace("\r", "").splitlines(True):
        words = line.split()
        if words[:1] != ["=="]:
            text += line
        elif words[1].endswith(":"):
            found[name] = Part(int(words[2]), text)
        else:
            name, text = words[1], ""
    assert name == "end", f"no report: {name}\n{text}\n{console.tail}"
    return found
