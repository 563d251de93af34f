# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The watcher itself: it sees what hooks of others did to the bare disk, on each kernel.

What it finds in the initrds: test_init.py, test_dracut.py, test_initramfs_tools.py, test_mkosi.py.
"""

import pytest

from . import disk_watch
from .cases import Case, run_cases
from .disk_watch import Access
from .guest import Disk
from .initrd import GUEST_MODULES, HASH_MODULES
from .kernels import NEWEST, STABLE
from .product import cfs_init
from .rootdisk import CARRIED, RootDisk
from .toolbox import Toolbox
from .tools import disk_watch as program

OURS = "cfs-setup-root"
KERNELS = [STABLE, pytest.param(NEWEST, marks=pytest.mark.newest)]
DEVICE = "/dev/block/254:0"  # /dev/vda

# dracut's mount-root.sh sourced a file of the disk and asked for others; the init of
# initramfs-tools read its fstab. Who grows a file system may open the directory, and no more.
HOSTILE = """
disk-watch start || exit
mount -t ext4 -o ro /dev/vda /disk || exit
stat -c %n /disk
. /disk/etc/sysconfig/readonly-root
[ ! -e /disk/etc/absent/file ] || exit
stat -c %s /disk/etc/fstab
stat -c %s /disk/etc/fstab
/disk/bait
(cd /disk)
systemd-growfs
cfs-setup-root --sysroot /disk || exit
cat /disk/etc/hostname
disk-watch stop
"""
GROWS = """#!/usr/bin/busybox sh
: </disk
read -r _ </disk/marker
"""


@pytest.fixture(scope="module", params=KERNELS)
def listed(request: pytest.FixtureRequest, toolbox: Toolbox, rootdisk: RootDisk) -> str:
    """What the watcher said of HOSTILE."""
    results = run_cases(
        toolbox, toolbox.kernel(request.param), [Case("hostile", HOSTILE, limit=60, leaks=True)],
        modules=(*GUEST_MODULES, *HASH_MODULES),
        disks=[Disk(rootdisk.disk("ext4"), discard_writes=True)],
        files={
            "usr/bin/disk-watch": program(), f"usr/bin/{OURS}": cfs_init(),
            "usr/bin/systemd-growfs": GROWS, CARRIED: rootdisk.carried("whole"),
        },
    )  # fmt: skip
    return results.check("hostile").stdout


@pytest.fixture(scope="module")
def found(listed: str) -> list[Access]:
    """What was not ours."""
    return disk_watch.strangers(disk_watch.until_attached(listed, OURS), OURS)


def test_each_path_is_reported_with_the_name_of_the_program(found: list[Access]) -> None:
    """Absent names and those that the kernel had cached too; after the attachment nothing."""
    assert {(a.program, a.rest) for a in found if a.what == "look" and a.inode == 2} == {
        ("sh", 'name="etc/sysconfig/readonly-root"'),
        ("sh", 'name="etc/absent/file"'),
        ("stat", 'name="etc/fstab"'),
        ("sh", 'name="bait"'),
        ("bait", 'name="bait"'),  # the interpreter of the script
        ("systemd-growfs", 'name="marker"'),
    }
    assert len({a.pid for a in found if a.program == "stat"}) == 2


def test_each_is_reported_without_its_name_too(found: list[Access]) -> None:
    """By the check of the right to look into the disk's root directory, which none goes around."""
    walked = {a.pid for a in found if a.what == "walk" and a.inode == 2}
    assert walked == {a.pid for a in found}


def test_executing_and_opening_are_reported(found: list[Access]) -> None:
    assert [a.program for a in found if a.what == "exec"] == ["sh"]
    assert {"sh", "bait", "systemd-growfs"} == {a.program for a in found if a.what == "open"}
    assert "mask=0x41" in {a.rest for a in found}  # the directory was entered


def test_the_attack_fails_a_test(listed: str) -> None:
    with pytest.raises(AssertionError, match=r"not ours, .*(?s:.*)sh\[\d+\] .*readonly-root"):
        disk_watch.check(listed, DEVICE, OURS)


def test_a_list_of_nothing_fails_a_test(listed: str) -> None:
    """Not whole, not attached, nobody seen."""
    ours = "\n".join(line for line in listed.splitlines() if " comm=" not in line or OURS in line)
    disk_watch.check(ours, DEVICE, OURS)
    for text, device, said in (
        (ours.replace("disk-watch: whole", ""), DEVICE, "no whole list"),
        (ours.replace(" attach: ", " other: "), DEVICE, "attached nothing"),
        (ours, "/dev/block/254:16", "nobody on /dev/block/254:16"),
    ):
        with pytest.raises(AssertionError, match=said):
            disk_watch.check(text, device, OURS)
