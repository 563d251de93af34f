# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A root with Debian's SELinux policy, enforcing: it comes up whole, whatever of it is in memory,
in an initrd of ours and in one with systemd, and again by soft reboot; and fstab mounts another.

No policy is loaded in the initrd: what is mounted there has no labels, and the systemd of the root
gives them, by the list that it is left.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import dracut
from .guest import Console, Disk, boot
from .initrd import BOOT_MODULES, CONFIG, boot_initrd, configuration
from .product import cfs_init
from .rootdisk import CARRIED
from .selinux_root import WITH_MODULE, SelinuxRoot, make_selinux_root
from .systemd_root import script_disk
from .toolbox import Toolbox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")

LIMIT = 900
UNIT = "cfs-soft-reboot.service"
APPEND = "root=/dev/vda security=selinux selinux=1 enforcing=1 rw"
# What restorecon would change is labelled wrong. It says so on two lines of each.
REPORT = """
echo "state: $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend | sed 's/^/failed: /'
echo "enforce: $(cat /sys/fs/selinux/enforce)"
echo "root: $(findmnt -n -o OPTIONS --target / | tr '\\n' ' ')"
echo "usr: $(findmnt -n -o FSROOT,OPTIONS --mountpoint /usr | tr -s " ")"
echo "list: $(ls /run/systemd/relabel-extra.d 2>/dev/null | tr '\\n' ' ')"
echo new >/etc/new; echo new >/var/new
for path in / /etc /etc/passwd /etc/new /var /var/new /usr /usr/bin/sh /run/cfs/root.json; do
    echo "label $path: $(stat -c %C $path)"
done
restorecon -nvr /etc /var 2>&1 | sed 's/^/wrong: /'
dmesg | cat | grep -E 'avc: +denied' | sed 's/^/denied: /'
echo "end: $(cut -d ' ' -f 1 /proc/uptime)"
"""


@dataclass(frozen=True)
class Report:
    """What a root said of itself."""

    console: Console
    lines: list[str]

    def all(self, key: str) -> list[str]:
        """The values of lines with that key."""
        start = f"{key}: "
        return [line.removeprefix(start) for line in self.lines if line.startswith(start)]

    def one(self, key: str) -> str:
        [value] = self.all(key)
        return value


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SelinuxRoot:
    return make_selinux_root(toolbox)


def come_up(
    toolbox: Toolbox, root: SelinuxRoot, work: Path, role: str, settings: Mapping[str, str],
    script: str = REPORT, initrd: bytes | None = None, extended: bool = False,
) -> Report:  # fmt: skip
    """Boots with our program as /init, or with the `initrd`."""
    kernel = toolbox.kernel(role)
    if initrd is None:
        initrd = boot_initrd(
            kernel, cfs_init(), modules=BOOT_MODULES,
            files={CONFIG: configuration(**settings), CARRIED: root.carried(extended)},
        )  # fmt: skip
    files = {"cfs-init": cfs_init(), UNIT: dracut.MODULE / UNIT}
    archive = script_disk(work / "script.tar", script.replace("DIGEST", root.image.digest), files)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=initrd, append=APPEND, memory=1024, limit=LIMIT,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=work / "console.log",
    )  # fmt: skip
    assert not console.timed_out, console.tail
    lines = console.results.decode(errors="replace").splitlines()
    assert lines, console.tail
    return Report(console, lines)


# What is asked for, by name.
MODES: dict[str, dict[str, str]] = {
    "in-memory": {},
    "overlays": {"etc": "overlay", "var": "overlay"},
    "on-disk": {"etc": "bind", "var": "transient-disk"},
    "transient-root": {"root": "transient", "etc": "overlay", "var": "bind"},
    "transient-root-in-memory": {"root": "transient"},
    "transient-root-alone": {"root": "transient", "etc": "none", "var": "none"},
    "transient-root-read-only": {"root": "transient-ro"},
}
_LATER = pytest.mark.all_only
CASES = [
    pytest.param(role, mode, marks=[] if (role, mode) == ("stable", "in-memory") else _LATER)
    for role in ("stable", "newest")
    for mode in MODES
]
LABELS = {
    "/": "root_t",
    "/etc": "etc_t",
    "/etc/passwd": "etc_t",
    "/etc/new": "etc_runtime_t",  # what the domain of such a service makes there
    "/var": "var_t",
    "/var/new": "var_t",
    "/usr": "usr_t",
    "/usr/bin/sh": "bin_t",
    "/run/cfs/root.json": "lib_t",
}
# Nobody's: all in a file system that has no labels, or that was there before the policy.
NO_LABEL = re.compile(r":(tmpfs_t|unlabeled_t|kernel_t):")
# systemd's own: the directory of credentials that it mounts for a service.
CREDENTIALS = re.compile(r'{ search } .*comm="systemd-journal" name="/" dev="tmpfs" ino=1 ')
# What dracut and the systemd in its initrd leave in /run for those of the root.
OF_DRACUT = re.compile(
    r'{ read } .*comm="systemd-modules" name="modprobe.d" dev="tmpfs" '
    r'|{ search } .*comm="systemd-journal" name="credentials" dev="tmpfs" '
)


@pytest.mark.parametrize(("role", "mode"), CASES)
def test_it_comes_up_enforcing_with_every_label(
    toolbox: Toolbox, root: SelinuxRoot, tmp_path: Path, role: str, mode: str
) -> None:
    settings = MODES[mode]
    report = come_up(toolbox, root, tmp_path, role, settings)
    check(report)
    attribute = "rw" if settings.get("root") == "transient" else "ro"
    assert report.one("root").startswith(f"{attribute},")
    assert "verity=require" in report.one("root")
    # A mount of its own, so that no file of it was copied into memory.
    assert bool(report.one("usr")) == ("root" in settings)
    assert "root" not in settings or report.one("usr").startswith(f"/usr {attribute},")


@pytest.mark.all_only
@pytest.mark.parametrize("mode", ["in-memory", "transient-root-in-memory"])
def test_an_extension(toolbox: Toolbox, root: SelinuxRoot, tmp_path: Path, mode: str) -> None:
    """What it is an extension of stands in a /usr that is a mount of its own where the root is in
    memory."""
    script = REPORT + 'echo "extension: $(ls /run/extensions/debug/usr/bin)"\n'
    report = come_up(toolbox, root, tmp_path, "stable", MODES[mode], script, extended=True)
    check(report)
    assert report.one("extension") == "debug"


def check(report: Report, others: re.Pattern[str] = CREDENTIALS) -> None:
    """What each root says that is up, with every label and nothing denied on our account, but on
    that of `others`."""
    assert report.one("state") == "running", report
    assert report.all("failed") == []
    assert report.one("enforce") == "1"
    assert report.one("list") == ""  # systemd has done what it says, and removed it
    for path, label in LABELS.items():
        assert report.one(f"label {path}") == f"system_u:object_r:{label}:s0"
    # What the policy denies others, in an empty /var for instance, it denies them everywhere.
    for line in (*report.all("wrong"), *report.all("denied")):
        known = CREDENTIALS.search(line) or others.search(line)
        assert not NO_LABEL.search(line) or known, line


@pytest.mark.all_only
@pytest.mark.parametrize("mode", ["in-memory", "transient-root-in-memory"])
def test_by_an_initrd_with_systemd(
    toolbox: Toolbox, root: SelinuxRoot, tmp_path: Path, mode: str
) -> None:
    settings = MODES[mode]
    toml = "[root]\ntransient = true\n" if settings else ""
    files: dict[str, bytes | str] = {dracut.TOML: toml, dracut.CARRIED: root.carried()}
    made = dracut.initrd(dracut.STABLE, toolbox.kernel("stable"), files, add=("cfs",))
    report = come_up(toolbox, root, tmp_path, "stable", settings, initrd=made.data)
    assert "cfs-setup-root.service" in report.console.text
    check(report, OF_DRACUT)


# Each root says it all again.
AGAIN = """
phase=$(cat /run/phase 2>/dev/null || echo 0)
echo $((phase + 1)) >/run/phase
echo "phase: $phase"
REPORT
dmesg -C
echo "source: $(grep -o '"source": "[^"]*"' /run/cfs/root.json)"
units=/run/systemd/system
mkdir -p $units/soft-reboot.target.wants
cp /run/test/UNIT $units
ln -sf ../UNIT $units/soft-reboot.target.wants
systemctl daemon-reload
chcon -t lib_t /run/test/cfs-init  # as where it is installed
case $phase in
0)
    systemd-run -q --wait -p Type=oneshot /run/test/cfs-init cfs-setup-root --soft-reboot DIGEST
    echo "prepared: $?" ;;
2) return ;;
esac
systemctl soft-reboot
sleep infinity
""".replace("REPORT", REPORT).replace("UNIT", UNIT)


@pytest.mark.all_only
@pytest.mark.parametrize(
    "mode", ["in-memory", "transient-root-in-memory", "transient-root-read-only", "overlays"]
)
def test_soft_reboots(toolbox: Toolbox, root: SelinuxRoot, tmp_path: Path, mode: str) -> None:
    """Into a root that was composed under the policy, and a bare one."""
    report = come_up(toolbox, root, tmp_path, "stable", MODES[mode], AGAIN)
    starts = [index for index, line in enumerate(report.lines) if line.startswith("phase: ")]
    assert len(starts) == 3, report
    for number, start in enumerate(starts):
        end = starts[number + 1] if number < 2 else None
        phase = Report(report.console, report.lines[start:end])
        check(phase)
        assert ("soft-reboot" in phase.one("source")) == (number > 0)
    assert report.one("prepared") == "0"


# Lines of fstab, in the /etc of a transient root: as Debian's policy is, and with our module.
MOUNTS = f"""
echo "state: $(systemctl is-system-running --wait)"
mkdir -p /usr/lib/composefs /var/upper /var/work
cp /run/test/cfs-init /usr/lib/composefs/cfs-init
ln -s ../lib/composefs/cfs-init /usr/sbin/mount.cfs
line() {{ echo "/sysroot/composefs /$1 cfs digest=DIGEST,$2 0 0" >>/etc/fstab; }}
line mnt ro
line media upperdir=/var/upper,workdir=/var/work
line srv noauto
line opt noauto,nosuch
systemctl daemon-reload
try() {{
    systemctl start $1.mount
    echo "$2: $?"
    systemctl status --no-pager -n 20 $1.mount | sed "s/^/$2 said: /"
}}
restorecon -R /usr/lib/composefs
try mnt plain
echo "why: $(dmesg | grep -o 'denied  {{ [^}}]*}}.*path="/usr/lib/composefs/cfs-init"' | head -n 1)"
cp -rT {WITH_MODULE} /etc/selinux/default
load_policy
restorecon -R /usr/lib/composefs
echo "label: $(stat -c %C /usr/lib/composefs/cfs-init)"
dmesg -C
for name in mnt media opt; do try $name $name; done
mount /srv >/run/said 2>&1 </dev/null
echo "srv: $? $(cat /run/said)"
echo "read: $(cat /mnt/etc/hostname)"
chroot /mnt /bin/true
echo "run: $?"
runcon -t dmesg_t /mnt/usr/bin/dmesg >/run/said 2>&1
echo "confined: $?"
echo new >/media/etc/new
echo "written: $(cat /media/etc/new) $(stat -c %C /media/etc/new /media/etc/passwd | tr '\\n' ' ')"
(set -e; echo x >>/media/etc/shadow; cp /bin/true /media/usr/bin/new; /media/usr/bin/new
    mkdir /media/home/new; rm /media/etc/hostname; mv /media/etc/issue /media/etc/other)
echo "changed: $?"
mount -o remount,nosuid /mnt >/run/said 2>&1 </dev/null
echo "remount: $? $(grep -c ' /mnt ro,nosuid' /proc/self/mountinfo)"
umount /srv >/run/said 2>&1 </dev/null
echo "umount: $?"
systemctl stop mnt.mount media.mount
echo "stop: $?"
dmesg | cat | grep -E 'avc: +denied.*(mount[.]cfs|cfs_t|unlabeled_t)' | sed 's/^/denied: /'
"""


@pytest.mark.all_only
@pytest.mark.parametrize("role", ["stable", "newest"])
def test_a_line_of_fstab(toolbox: Toolbox, root: SelinuxRoot, tmp_path: Path, role: str) -> None:
    """Debian's policy does not even let mount(8) run the helper. With the module all is as without
    SELinux, of a store without labels."""
    report = come_up(toolbox, root, tmp_path, role, MODES["transient-root-in-memory"], MOUNTS)
    assert report.one("state") == "running"
    assert report.one("plain") != "0", report
    assert report.one("why").startswith("denied  { execute_no_trans } "), report.lines
    assert report.one("label") == "system_u:object_r:cfs_exec_t:s0"
    assert (report.one("mnt"), report.one("media")) == ("0", "0"), report
    # A refusal is heard: the helper may write to the journal.
    assert report.one("opt") != "0"
    assert any("unknown mount option" in line for line in report.all("opt said")), report.lines
    assert report.one("srv") == "0 "
    assert report.one("read") == "labelled"
    assert (report.one("run"), report.one("confined")) == ("0", "0"), report
    written = "new system_u:object_r:etc_runtime_t:s0 system_u:object_r:etc_t:s0 "
    assert report.one("written") == written
    assert report.one("changed") == "0"
    assert report.one("remount") == "0 1"
    assert (report.one("umount"), report.one("stop")) == ("0", "0")
    assert report.all("denied") == []
