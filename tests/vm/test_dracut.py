# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our dracut module: initrds by three dracuts, and what systemd finds in the roots they boot.

One disk goes through all boots, in the order of the file; each test needs what was before it. It
has what others would read of a bare disk, and partitions that nobody asked for: see bait.py.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import write_cpio
from tests.demo.command import product

from . import bait, disk_watch, dracut
from .credentials import NO_CREDENTIALS, by_smbios, credentials
from .disks import MIB, overlay
from .dracut import CARRIED, SYSTEMD_MODULES, TOML, DracutError, initrd
from .guest import COMMAND_LINE, Console, Disk, Firmware, boot
from .initrd import file_entry
from .once import REPOSITORY
from .product import cfs_init
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .toolbox import Toolbox
from .uki import boot_disk, build_uki

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")

ESP = "cf500000-0000-4000-8000-000000000011"
ROOT = "cf500000-0000-4000-8000-000000000012"
LIMIT = 480  # several minutes where others keep the processors busy
GROWN = 128 * MIB
UNIT = "cfs-soft-reboot.service"
MESSAGE_ID = "d6dbbebefaee40928cc65d190afac820"

OURS = "cfs-setup-root"
MODULE_SETUP = REPOSITORY / "dracut-module/90cfs/module-setup.sh"

TRANSIENT = '[etc]\nmount = "transient"\n[var]\nmount = "transient"\n'
LINKED = TRANSIENT + "[sysroot]\nvolatile-root-link = true\n"
PERSISTENT = '[etc]\nmount = "overlay"\n[var]\nmount = "bind"\n'

# With definitions in the initrd systemd-repart runs there: not with those of the disk.
REPART = {"usr/lib/repart.d/10-root.conf": "[Partition]\nType=root\n"}

REPORT = """
echo "state: $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend | sed 's/^/failed: /'
echo "hostname: $(cat /etc/hostname)"
echo "root: $(findmnt -n -o SOURCE,OPTIONS /)"
echo "record: $(tr -d '\\n' </run/cfs/root.json)"
echo "device: $(readlink /run/systemd/volatile-root)"
echo "generated: $(ls /run/systemd/generator /run/systemd/generator.late 2>/dev/null |
    grep -E '[.](mount|automount|swap)$' | sort | tr '\\n' ' ')"
echo "strange: $(grep -Eho '/dev/vda([3-9]|1[0-9])' /proc/mounts /proc/swaps | tr '\\n' ' ')"
echo "keys: $(ls -d /home/* /srv/* /root/.ssh/* /var/tmp/root /efi/* 2>/dev/null | tr '\\n' ' ')"
for place in etc var; do
    if [ -e /$place/probe ]; then echo "$place: $(cat /$place/probe)"; else echo "$place: none"; fi
done
for unit in repart fsck growfs; do
    echo "$unit: $(journalctl -b --no-pager -o cat -t systemd-$unit | tr '\\n' ' ')"
done
tries=0
until [ -e /run/disk-watch ] || [ $tries = 60 ]; do tries=$((tries + 1)); sleep 1; done
sed 's/^/watched| /' /run/disk-watch
echo "journal: $(journalctl -b --no-pager -o cat MESSAGE_ID=THE_ID | grep 'root is')"
""".replace("THE_ID", MESSAGE_ID)


@dataclass(frozen=True)
class Machine:
    """The disk that goes through all boots, and what it was made of."""

    box: Toolbox
    root: SystemdRoot
    disk: Path
    work: Path

    def boot(self, name: str, script: str, **how: object) -> Console:
        """Boots with `script` to run; the console is kept as a log."""
        archive = script_disk(
            self.work / f"{name}.tar", script,
            {"cfs-init": cfs_init(), UNIT: dracut.MODULE / UNIT},
        )  # fmt: skip
        disks = [Disk(self.disk, format="qcow2"), Disk(archive, read_only=True)]
        return boot(
            self.box, disks=disks, memory=1024, limit=LIMIT,
            log=self.work / f"{name}.log", **how,  # type: ignore[arg-type]
        )  # fmt: skip

    def direct(
        self,
        name: str,
        script: str,
        by: str,
        role: str,
        append: str,
        files: dict[str, bytes | str],
        omit: tuple[str, ...] = (),
        until: str | None = None,
        arguments: tuple[str, ...] = (),
    ) -> Console:
        """Boots without firmware, with an initrd of the dracut `by`."""
        kernel = self.box.kernel(role)
        made = initrd(by, kernel, files, omit=omit, add=("cfs",))
        return self.boot(
            name, script, kernel=kernel.vmlinuz, initrd=disk_watch.watched(made.data),
            until=until, append=f"root=PARTUUID={ROOT} {disk_watch.APPEND} {append}",
            arguments=arguments,
        )  # fmt: skip


def reports(console: Console) -> list[dict[str, str]]:
    """What the roots said of themselves, one after the other."""
    found: list[dict[str, str]] = []
    for line in console.results.decode(errors="replace").splitlines():
        key, separator, value = line.partition(": ")
        if key == "state":
            found.append({})
        if separator and found:
            found[-1].setdefault(key, value)
    assert found, console.tail
    return found


def check_first(console: Console, report: dict[str, str]) -> None:
    """Of a boot: nobody but us had touched the disk, and nothing else of it was let in."""
    lines = (
        line.removeprefix("watched| ")
        for line in console.results.decode(errors="replace").splitlines()
        if line.startswith("watched| ")
    )
    device = json.loads(report["record"])["device"]
    disk_watch.check("\n".join(lines), device, OURS)
    assert not bait.executed(console.text)


def check(report: dict[str, str], digest: str, **expected: str) -> dict[str, object]:
    """What each composed root must say; the status record."""
    assert report["state"] == "running", report
    assert re.match(rf"composefs:{digest} ro,.*verity=require", report["root"])
    for key, value in expected.items():
        assert report[key] == value
    record: dict[str, object] = json.loads(report["record"])
    assert record["digest"] == f"sha256:{digest}"
    assert re.fullmatch(r"/dev/block/\d+:2", str(record["device"]))
    assert report["strange"] == report["keys"] == ""
    return record


@pytest.fixture(scope="module")
def machine(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    root = make_systemd_root(toolbox)
    work = tmp_path_factory.mktemp("dracut")
    kernel = toolbox.kernel("stable")
    made = initrd(dracut.STABLE, kernel, {TOML: LINKED}, add=("cfs", "systemd-repart"))
    repart = write_cpio([file_entry(name, text) for name, text in REPART.items()])
    plain = build_uki(
        toolbox, kernel, work / "plain.efi", initrd=disk_watch.watched(made.data) + repart,
        cmdline=f"{COMMAND_LINE} root=PARTUUID={ROOT} rw {disk_watch.APPEND} "
        "systemd.image_policy=esp=unprotected+absent:=ignore "
        "rd.systemd.wants=systemd-growfs@sysroot.service",
    )  # fmt: skip
    uki = work / "sealed.efi"
    product("cfs-uki", "seal", "--digest", root.first.digest, str(plain), "-o", str(uki))
    # The partition is larger than the file system in it.
    partition = work / "partition"
    shutil.copyfile(root.disk, partition)
    os.truncate(partition, partition.stat().st_size + GROWN)
    base = work / "base"
    boot_disk(
        toolbox, base, uki, partition, esp_partuuid=ESP, root_partuuid=ROOT,
        more=bait.partitions(toolbox, work),
    )  # fmt: skip
    partition.unlink()
    return Machine(toolbox, root, overlay(toolbox, base, work / "disk"), work)


def test_a_sealed_uki_boots_and_a_second_image_follows_by_soft_reboot(machine: Machine) -> None:
    first, second = machine.root.first.digest, machine.root.second.digest
    script = (
        REPORT
        + f"""
echo "size: $(findmnt -n -b -o SIZE /sysroot)"
echo "automounts: $(systemctl list-units --plain --no-legend --type=automount | tr '\\n' ' ')"
echo before >/etc/probe; echo before >/var/probe
[ "$(cat /etc/hostname)" = first ] || return 0
following() {{
    systemd-run -q -p Type=oneshot -u $1 /run/test/cfs-init cfs-setup-root --soft-reboot $2
}}
listed() {{ journalctl --sync; journalctl -o cat -u $1 -t cfs-init -p $2 | sed "s/^/$3: /"; }}
following refused {"0" * 64}
listed refused err refused
systemctl reset-failed refused
echo "left: $(findmnt -n /run/nextroot)"
following prepared {second}
listed prepared err error
listed prepared info prepared
cp /run/test/{UNIT} /run/systemd/system
mkdir -p /run/systemd/system/soft-reboot.target.wants
ln -s ../{UNIT} /run/systemd/system/soft-reboot.target.wants
systemctl daemon-reload
systemctl soft-reboot
sleep infinity
"""
    )
    console = machine.boot("uki", script, firmware=Firmware())
    before, after = reports(console)
    record = check(before, first, hostname="first", etc="none", var="none")
    assert (record["source"], record["etc"], record["var"]) == ("carried", "transient", "tmpfs")
    assert str(record["uki"]).startswith("unproved, equal: /dev/vda1:")
    assert re.search(rf"cfs-setup-root: root is \S+{first} .*carried", before["journal"])
    # gpt-auto has found the disk by the link, and on it the ESP that has booted; the policy lets
    # nothing else in.
    assert before["device"] == record["device"]
    assert before["generated"] == "boot.automount boot.mount "
    assert "boot.automount" in before["automounts"]
    # fsck and growing have seen the file system; systemd-repart, which has definitions here, and
    # would have gone by those of the disk, has not run.
    assert "clean" in before["fsck"]
    assert "resized" in before["growfs"]
    assert before["repart"] == ""
    check_first(console, before)
    assert int(before["size"]) > machine.root.disk.stat().st_size
    assert before["refused"].startswith("cfs-setup-root: refused: open: /sysroot/composefs/")
    assert before["left"] == ""
    assert "error" not in before
    assert before["prepared"].startswith("cfs-setup-root: /run/nextroot is ")
    record = check(after, second, hostname="second", etc="none", var="none")
    assert (record["source"], record["etc"]) == ("soft-reboot", "transient")


@pytest.mark.newest
def test_etc_and_var_are_edited_under_the_newest_dracut_and_kernel(machine: Machine) -> None:
    """And what was in the transient /etc and /var of the boots before is gone."""
    first = machine.root.first
    console = machine.direct(
        "edit", REPORT + "echo edited >/etc/probe; echo edited >/var/probe; sync\n",
        dracut.NEWEST, "newest", "rw", {TOML: PERSISTENT, CARRIED: machine.root.carried(first)},
    )  # fmt: skip
    [report] = reports(console)
    record = check(report, first.digest, hostname="first", etc="none", var="none")
    assert (record["etc"], record["var"]) == ("overlay", "bind")
    # No link was asked for: nothing is let in, without any word on the command line.
    assert report["device"] == report["generated"] == ""
    check_first(console, report)


@pytest.mark.newest  # what the boot before has written
def test_both_are_still_there_under_the_oldest_dracut_without_systemd(machine: Machine) -> None:
    first = machine.root.first
    console = machine.direct(
        # No automounts: autofs is a module, and nothing has loaded it.
        "again", REPORT + "cp /bin/true /var/true; /var/true && echo executed: yes\n",
        dracut.OLDEST, "stable", "rw systemd.gpt_auto=0",
        {TOML: PERSISTENT, CARRIED: machine.root.carried(first)}, SYSTEMD_MODULES,
    )  # fmt: skip
    assert "systemd[1]" not in console.text.partition("cfs-setup-root: root is")[0]
    [report] = reports(console)
    check(report, first.digest, hostname="first", etc="edited", var="edited", executed="yes")
    assert report["device"] == report["generated"] == ""


# What dracut says, then sulogin, with a password for root in the initrd or without.
EMERGENCY = "Entering emergency mode|Give root password|Press Enter|root account is locked"


@pytest.mark.parametrize(
    ("by", "files", "append", "end"),
    [
        pytest.param(
            # composefs.digest= alone; the initrd has no configuration: the defaults
            dracut.OLDEST, {}, "composefs.digest=v1-sha256-12:DIGEST",
            "reboot in 10 s(?s:.*)reboot: Restarting system", id="reboot",
        ),
        pytest.param(
            # At once: the journal, which would carry the line, dies with the machine.
            dracut.STABLE, {TOML: '[failure]\naction = "poweroff"\ndelay = 0\n'},
            f"rd.shell rd.break {NO_CREDENTIALS}",
            "poweroff in 0 s(?s:.*)reboot: Power down", id="power-off",
        ),
        pytest.param(
            dracut.STABLE, {TOML: '[failure]\naction = "shell"\n'}, "",
            f"a shell, since the configuration says so(?s:.*)({EMERGENCY})", id="shell",
        ),
    ],
)  # fmt: skip
def test_a_refusal_ends_as_configured(
    machine: Machine, by: str, files: dict[str, bytes | str], append: str, end: str
) -> None:
    """With systemd. None of them has a digest that counts. Without the word on the command line a
    credential runs a unit there: that of the stable dracut knows such credentials."""
    append = append.replace("DIGEST", machine.root.first.digest)
    shell = 'action = "shell"' in files.get(TOML, "")
    console = machine.direct(
        "refused", REPORT, by, "stable", append, files, until=EMERGENCY if shell else None,
        arguments=tuple(by_smbios(credentials("smbios"))),
    )  # fmt: skip
    assert not console.timed_out, console.tail
    assert not console.results
    refused = "refused: source: /usr/lib/composefs/rootfs.digest: not in this initrd"
    # What comes by the journal may be late where the end comes at once; the last line never is.
    assert "in 0 s" in end or f"cfs-setup-root: {refused}" in console.text
    assert re.search(f"cfs-setup-root: {end}", console.text), console.tail
    assert shell or not re.search(EMERGENCY, console.text)
    if by == dracut.STABLE:
        ran = re.search(r"bait: smbios|Finished \S*bait-smbios\.service", console.text)
        assert bool(ran) == (NO_CREDENTIALS not in append)
    assert "<3>" not in console.text  # for the journal, and taken away by it
    assert "Switch Root" not in console.text


@pytest.mark.parametrize("by", dracut.EACH)
def test_a_typo_in_the_configuration_stops_the_build(toolbox: Toolbox, by: str) -> None:
    with pytest.raises(DracutError) as caught:
        initrd(
            by,
            toolbox.kernel("stable"),
            {TOML: "[etc]\nmout = 'bind'\n"},
            only=("base", "cfs"),
        )
    assert re.search(r"setup-root-conf\.toml:2:1.*mout.*mount", str(caught.value))
    assert "no initrd is made" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "compiler", "said"),
    [
        ({TOML: TRANSIENT}, False, "cfs-init-config is needed to check and compile it"),
        ({CARRIED: ""}, True, "rootfs.digest: its first line is '', expected 'cfsdig1'"),
    ],
    ids=["no compiler", "empty digest file"],
)
def test_what_cannot_be_installed_stops_the_build(
    toolbox: Toolbox, files: dict[str, bytes | str], compiler: bool, said: str
) -> None:
    with pytest.raises(DracutError) as caught:
        initrd(
            dracut.STABLE, toolbox.kernel("stable"), files, only=("base", "cfs"), compiler=compiler
        )
    assert said in str(caught.value)


@pytest.mark.parametrize("module", ["systemd", "busybox", "base"])
def test_nothing_that_leaves_the_initrd_stops_the_build(tmp_path: Path, module: str) -> None:
    """On Debian 14 switch_root is in util-linux-extra. Without it dracut 112 complains, and writes
    an initrd that ends at its last line."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    script = """
    inst_simple() { :; }; inst_multiple() { :; }; inst_hook() { :; }; dfatal() { echo "$*"; }
    find_binary() { return 1; }; dracut_module_included() { [ "$1" = "$included" ]; }
    . "$1"; install
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", MODULE_SETUP],
        env={**os.environ, "initdir": str(tmp_path), "dracutsysrootdir": str(tmp_path),
             "included": module, "systemdsystemunitdir": "/usr/lib/systemd/system"},
        check=False, timeout=600, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stderr
    if module == "base":
        assert done.returncode == 1
        assert done.stdout == (
            "cfs: switch_root is not on this machine, and this initrd has no systemd: it could not "
            "start the root. Install switch_root (Debian 14: util-linux-extra). No initrd is made\n"
        )
    else:
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    # A configuration alone is no wish: the next initrd of a machine that builds would not boot.
    [(TOML, 255), (CARRIED, 0), ("setup-root.conf", 255)],
)
@pytest.mark.parametrize("hostonly", ["yes", ""])
def test_on_which_machines_it_is_in_by_itself(
    tmp_path: Path, name: str, expected: int, hostonly: str
) -> None:
    directory = tmp_path / "usr/lib/composefs"
    directory.mkdir(parents=True)
    (directory / "cfs-init").touch(0o755)
    (directory / name).touch()
    code, said = _check(tmp_path, hostonly)
    assert code == expected
    assert said == (
        "cfs: not in this initrd by itself: there is /usr/lib/composefs/setup-root-conf.toml, but "
        "no /usr/lib/composefs/rootfs.digest, and this machine was not booted so. To have it in: "
        "dracut --add cfs\n"
        if name == TOML
        else ""
    )


def test_it_is_in_on_a_machine_that_was_booted_so(tmp_path: Path) -> None:
    """And not in what that machine makes for another."""
    program = tmp_path / "usr/lib/composefs/cfs-init"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    (tmp_path / "record").touch()
    booted = f"_cfs_record={tmp_path}/record"
    assert _check(None, "yes", f"_cfs_init={program}; {booted}") == (0, "")
    assert _check(None, "yes", f"_cfs_init={program}; _cfs_record=/none") == (255, "")
    assert _check(tmp_path, "yes", booted) == (255, "")


def _check(root: Path | None, hostonly: str, machine: str = ":") -> tuple[int, str]:
    """What check() of our module answers and says; `machine` sets its variables."""
    script = f'dinfo() {{ echo "$*"; }}; . "$1"; {machine}; check'
    done = subprocess.run(
        ["bash", "-c", script, "bash", MODULE_SETUP],
        env={**os.environ, "dracutsysrootdir": str(root) if root else "", "hostonly": hostonly},
        check=False, timeout=600, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout


def test_the_size_of_an_initrd_with_and_without_it(
    toolbox: Toolbox, capsys: pytest.CaptureFixture[str]
) -> None:
    made = initrd(dracut.STABLE, toolbox.kernel("stable"), {TOML: TRANSIENT}, add=("cfs",))
    ours = made.file.stat().st_size
    without = initrd(dracut.STABLE, toolbox.kernel("stable")).file.stat().st_size
    with capsys.disabled():
        print(
            f"\ndracut {made.dracut}, --no-hostonly, zstd: {without:,} bytes without our module, "
            f"{ours:,} with it: {ours - without:+,}"
        )
    assert 0 < ours - without < 2 * MIB
