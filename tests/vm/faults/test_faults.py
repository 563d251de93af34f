# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every system call of a mount made to fail once, killed at each, features missing, no memory.

In `make check` each call fails with one of its errors; in `make check-all` (and `make faults`)
with each of them, and more allocations fail.
"""

import re
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config, payload
from tests.scope import ALL, parameters
from tests.vm.cases import Case, LazyResults, run_cases
from tests.vm.guest import Disk
from tests.vm.initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from tests.vm.product import another_build, cfs_init
from tests.vm.store import Store
from tests.vm.toolbox import Toolbox

from . import sweep

# What a run left is looked at after each; whether another works, now and then.
EVERY = "" if ALL else "-c 8"
ERRORS = "-a" if ALL else EVERY
# A prime, so that the steps fall on ever other places of what the program does again and again.
MEMORY_STEP = 3 if ALL else 13

_LIMIT = 3000 if ALL else 300

MOUNT = "-u /mnt/root -- /usr/bin/cfs-mount --object-store /disk/repo --digest $D -v --json"
UPPER = "--upperdir /disk/state/upper --workdir /disk/state/work"
SETUP_ROOT = "-u /sysroot -g /run/cfs/root.json.new -- /usr/bin/cfs-setup-root"
SWEEPS = {
    "mount": f"inject {ERRORS} {MOUNT} /mnt/root",
    # as on kernels before 6.12
    "mount-loop": f"inject -b {ERRORS} {MOUNT} /mnt/root",
    "setup-root": f"inject {ERRORS} {SETUP_ROOT}",
    "kill-mount": f"inject -m kill {EVERY} {MOUNT} /mnt/root",
    "deny-mount": f"inject -m deny {MOUNT} /mnt/root",
    "deny-setup-root": f"inject -m deny {SETUP_ROOT}",
    "memory": f"inject -m memory {EVERY} -s {MEMORY_STEP} "
    f"{MOUNT.replace('/usr/bin/cfs-mount', '/opt/cfs-mount')} /mnt/root",
}
MORE = {
    "kill-setup-root": "inject -m kill -u /sysroot -- /usr/bin/cfs-setup-root",
    "mount-upper": f"inject {ERRORS} {MOUNT} {UPPER} /mnt/root",
    "kill-mount-loop": f"inject -m kill -b {MOUNT} /mnt/root",
}
ERROR_SWEEPS = parameters(SWEEPS, MORE, ("mount", "setup-root"))
KILL_SWEEPS = parameters(SWEEPS, MORE, ("kill",))

_SETUP = """
ln -s cfs-mount /usr/bin/cfs-setup-root
mkdir -p /mnt/root
mount -t ext4 /dev/vda /disk
mkdir /disk/state/upper /disk/state/work /sysroot
mount -o bind /disk /sysroot
"""
SETTINGS = config.Config()
SETTINGS.store = "/repo"


@pytest.fixture(scope="session")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with allocation.c."""
    out = tmp_path_factory.mktemp("forgetful")
    files = [sweep.HERE / name for name in ("allocation.c", "allocation_start.c")]
    return another_build(out, extra=files, wrap=["snapshot_resume"])


@pytest.fixture(scope="session")
def guest(toolbox: Toolbox, store: Store, forgetful: Path) -> LazyResults:
    """All sweeps, in one boot."""
    digest = Digest.parse(store.sha256, "store")
    return LazyResults(
        lambda: run_cases(
            toolbox,
            toolbox.kernel("stable"),
            [
                Case(name, f"D={store.sha256}\n{script}\n", limit=_LIMIT)
                for name, script in (SWEEPS | (MORE if ALL else {})).items()
            ],
            setup=_SETUP,
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            files={
                "usr/bin/inject": sweep.injector(),
                "usr/bin/cfs-mount": cfs_init(),
                "opt/cfs-mount": forgetful,
                config.PATH.lstrip("/"): config.format(SETTINGS),
                payload.CARRIED.lstrip("/"): payload_write.write([digest]),
            },
            disks=[Disk(store.disk("ext4"), discard_writes=True)],
        )
    )


def runs(guest: LazyResults, name: str) -> list[sweep.Run]:
    """Of one sweep; it ended by itself and left nothing behind."""
    result = guest.check(name)
    found = sweep.parse(result.stdout)
    print(f"{name}: {len(found)} runs with a fault, {result.seconds:.1f} s")
    return found


@pytest.mark.parametrize("name", ERROR_SWEEPS)
def test_a_call_that_fails_is_named_and_leaves_nothing(guest: LazyResults, name: str) -> None:
    found = runs(guest, name)
    program = "cfs-setup-root" if name == "setup-root" else "cfs-mount"
    assert list(sweep.faults(found, program=program)) == []
    # the sweep went through the whole of it, and not through something that failed at its start
    seen = {run.call for run in found}
    mounting = {"openat2", "ioctl", "fsopen", "fsconfig", "fsmount", "move_mount", "open_tree"}
    assert mounting | {"unshare", "mount", "setns", "pread64", "write"} <= seen
    assert [run.n for run in found] == sorted(run.n for run in found)
    assert {run.n for run in found} == set(range(1, found[-1].n + 1))
    if name == "mount-loop":
        assert "/dev/loop-control" in {run.detail for run in found}
    if name == "setup-root":
        assert "mount_setattr" in seen
        assert seen & {"rename", "renameat"}


@pytest.mark.parametrize("name", KILL_SWEEPS)
def test_killed_anywhere_it_leaves_nothing_or_a_whole_root(guest: LazyResults, name: str) -> None:
    found = runs(guest, name)
    assert list(sweep.killed_faults(found)) == []
    mounted = [bool(run.mounts) for run in found]
    # nothing, up to the one call that attaches it; and from there on all
    assert mounted == sorted(mounted)
    assert not mounted[0]
    assert mounted[-1]
    first = found[mounted.index(True) - 1]
    assert first.call == "move_mount"


API = r"mount API of Linux 5\.12 \(.*"
FEATURES = {
    "openat2": r"openat2 \(Linux 5\.6\)",
    **{
        call: API + call
        for call in ("fsopen", "fsconfig", "fsmount", "move_mount", "open_tree", "mount_setattr")
    },
    "unshare": "unshare|CAP_SYS_ADMIN",
    "mount": "mount|CAP_SYS_ADMIN",
    "setns": "setns",
}


@pytest.mark.parametrize("name", ["deny-mount", "deny-setup-root"])
def test_a_kernel_or_filter_without_a_call_is_refused_by_its_name(
    guest: LazyResults, name: str
) -> None:
    found = runs(guest, name)
    expected = set(FEATURES) - ({"mount_setattr"} if name == "deny-mount" else set())
    assert {(run.call, run.errno) for run in found} == {
        (call, error) for call in expected for error in ("ENOSYS", "EPERM")
    }
    problems = []
    for run in found:
        problems += list(sweep.faults([run], program=name.replace("deny-", "cfs-")))
        if run.exit == 0 or not re.search(FEATURES[run.call], run.said):
            problems.append(f"the call is not named: {run}")
    assert problems == []


def test_memory_that_runs_out_leaves_nothing(guest: LazyResults) -> None:
    found = runs(guest, "memory")
    assert list(sweep.memory_faults(found)) == []
    assert found[-1].n > 500
    steps = {run.said.split(": ")[2] for run in found if ": out of memory" in run.said}
    assert {"usage", "check"} <= steps


def test_the_hook_that_lets_memory_run_out_is_in_no_other_build(forgetful: Path) -> None:
    mark = b"CFS_TEST_ALLOCATIONS"
    assert mark in forgetful.read_bytes()
    assert mark not in cfs_init().read_bytes()
    for name, there in (
        (forgetful.parent / "cfs-init.debug", True),
        (cfs_init().parent / "cfs-init.debug", False),
    ):
        assert (b"cfs_test_fail_allocations" in name.read_bytes()) is there
