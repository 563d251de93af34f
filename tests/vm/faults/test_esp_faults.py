# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The look at the ESP, in a sealed UKI that firmware booted: each of its calls made to fail once.

The calls of the confined reader among them, which runs in a child.
"""

import json

import pytest

from pyinit.host.uki.seal import seal
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from tests.scope import ALL, parameters
from tests.vm.cases import Case, LazyResults, Results, boot_limit, cases_initrd
from tests.vm.guest import BEGUN, COMMAND_LINE, Disk, Firmware, boot
from tests.vm.initrd import BOOT_MODULES
from tests.vm.product import cfs_init
from tests.vm.store import Store
from tests.vm.target import TARGET
from tests.vm.toolbox import Toolbox
from tests.vm.uki import boot_disk, build_uki

from . import sweep
from .test_faults import ERRORS, EVERY

_ESP = "abcdef01-2222-4333-8444-555555555555"
_ROOT = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
_LIMIT = 3000 if ALL else 1500
_REQUIRE = "/etc/require.conf"

# From the first look at the firmware (kill: from the UKI itself) to the file that is carried.
_PART = "-f /sys/firmware/efi -t /usr/lib/composefs/rootfs.digest"
_PROGRAM = "-u /sysroot -r /run/cfs/root.json -g /run/cfs/root.json.new -- /usr/bin/cfs-setup-root"
_OF_THE_UKI = _PART.replace("/sys/firmware/efi", TARGET.boot_file)
_UKI = f"/dev/vda1:/EFI/BOOT/{TARGET.boot_file}"
SWEEPS = {
    "compare": f"inject {ERRORS} {_PART} {_PROGRAM}",
    "kill": f"inject -m kill {EVERY} {_OF_THE_UKI} {_PROGRAM}",
}
MORE = {"require": f"{SWEEPS['compare']} --config {_REQUIRE}"}
# Last, since it changes the UKI on the disk: its section .cmdline gets another name.
_UNSIGNED = f"""
mount -t vfat -o codepage=437,iocharset=ascii /dev/vda1 /mnt || exit 90
cd /mnt/EFI/BOOT
head -c 4096 {TARGET.boot_file} | xxd -p | tr -d '\\n' >/tmp/hex
sed s/2e636d646c696e65/78636d646c696e65/ /tmp/hex | xxd -r -p >/tmp/head
dd if=/tmp/head of={TARGET.boot_file} bs=4096 conv=notrunc 2>/dev/null
cd /
umount /mnt
cfs-setup-root || exit
cat /run/cfs/root.json
umount /sysroot/etc /sysroot/var /sysroot/sysroot /sysroot
"""
_SETUP = """
mkdir /sysroot
mount -t ext4 /dev/vda2 /sysroot
"""


def _configuration(uki: str) -> bytes:
    settings = config.Config()
    settings.store, settings.uki = "/repo", uki
    return config.format(settings)


@pytest.fixture(scope="module")
def guest(toolbox: Toolbox, store: Store, tmp_path_factory: pytest.TempPathFactory) -> LazyResults:
    """All sweeps, in one boot by OVMF. There are no loop devices, which take time to look at."""
    kernel, directory = toolbox.kernel("stable"), tmp_path_factory.mktemp("esp")
    sweeps = SWEEPS | (MORE if ALL else {})
    cases = [Case(name, script, limit=_LIMIT) for name, script in sweeps.items()]
    cases.append(Case("no-command-line", _UNSIGNED))

    def run() -> Results:
        initrd = cases_initrd(
            toolbox,
            kernel,
            cases,
            setup=_SETUP,
            modules=BOOT_MODULES,
            load=[name for name in BOOT_MODULES if name != "loop"],
            files={
                "usr/bin/inject": sweep.injector(),
                "usr/bin/cfs-setup-root": cfs_init(),
                config.PATH.lstrip("/"): _configuration("compare"),
                _REQUIRE.lstrip("/"): _configuration("require"),
            },
        )
        command_line = f"{COMMAND_LINE} loglevel=4"
        plain, sealed = directory / "plain.efi", directory / "sealed.efi"
        build_uki(toolbox, kernel, plain, initrd=initrd, cmdline=command_line)
        seal(plain, sealed, [Digest.parse(store.sha256, "store")])
        disk = directory / "disk.raw"
        boot_disk(
            toolbox,
            disk,
            sealed,
            store.disk("ext4"),
            esp_partuuid=_ESP,
            root_partuuid=_ROOT,
        )
        console = boot(
            toolbox, disks=[Disk(disk)], firmware=Firmware(), limit=boot_limit(cases), begun=BEGUN
        )
        return Results(console, cases)

    return LazyResults(run)


def runs(guest: LazyResults, name: str) -> list[sweep.Run]:
    result = guest.check(name)
    found = sweep.parse(result.stdout)
    print(f"{name}: {len(found)} runs with a fault, {result.seconds:.1f} s")
    return found


@pytest.mark.parametrize("name", parameters(["compare"], MORE))
def test_a_call_that_fails_is_told_or_recorded(guest: LazyResults, name: str) -> None:
    found = runs(guest, name)
    assert list(sweep.esp_faults(found, required=name == "require")) == []
    assert {run.n for run in found} == set(range(1, found[-1].n + 1))
    # efivarfs, the partition, the file on it, and the child that reads it
    assert {"efivarfs", "vfat"} <= {run.detail for run in found if run.call == "fsopen"}
    assert any("StubImageIdentifier" in run.detail for run in found)
    assert any(TARGET.boot_file in run.detail for run in found if run.call in ("open", "openat"))
    child = {run.call for run in found if run.forked}
    assert {"prlimit64", "prctl", "pread64", "write"} <= child
    calls = {run.call for run in found if not run.forked}
    assert {"pipe2", "wait4"} <= calls
    assert calls & {"clone", "fork"}  # glibc's, and musl's


def test_a_reader_that_is_killed_is_a_uki_that_cannot_be_read(guest: LazyResults) -> None:
    found = runs(guest, "kill")
    for run in found:
        assert (run.left, run.mounts, run.clean) == ("", 0, True), run
        if run.forked:
            assert run.exit == 32, run
            assert "the confined reader failed (wait status 0x9)" in run.said, run
        else:
            assert run.signal == 9, run
    assert any(run.forked for run in found)


def test_the_records_are_of_this_boot(guest: LazyResults, store: Store) -> None:
    records = [json.loads(run.record) for run in runs(guest, "compare") if run.exit == 0]
    assert {record["digest"] for record in records} == {f"sha256:{store.sha256}"}
    assert any(record["uki"].startswith("unproved, equal: ") for record in records)
    assert any(record["uki"].startswith("not compared: ") for record in records)
    lines = {record["command_line"] for record in records}
    assert lines == {"unproved, in the UKI", "not looked at"}


def test_a_uki_without_a_command_line_is_told_and_recorded(guest: LazyResults) -> None:
    """Who started it chose init= and its arguments."""
    result = guest.check("no-command-line")
    assert result.stderr.startswith(
        f"warning: {_UKI} has no .cmdline: whoever started it chose init= "
        "and its arguments; build it with one (ukify build --cmdline=...)\n"
    )
    record = json.loads(result.stdout)
    assert record["command_line"] == "not in the UKI"
    assert record["uki"] == f"unproved, equal: {_UKI}"
