# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`init`: each of its calls made to fail once, from its start to the init of the new root.

It is PID 1 of a namespace of its own with nothing mounted but the guest's initramfs, which it
cannot empty (inject/start.c, inject/trace.c); what it executes at last powers that namespace off.
"""

import pytest

from pyinit.initrd.source import config
from tests.scope import ALL, parameters
from tests.vm.cases import Case, LazyResults, run_cases
from tests.vm.guest import Disk
from tests.vm.initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from tests.vm.product import cfs_init
from tests.vm.rootdisk import CARRIED, make_rootdisk
from tests.vm.toolbox import Toolbox

from . import sweep

_LIMIT = 3000 if ALL else 900
_ERRORS = "-a" if ALL else ""
# Looking for drivers is the same few calls for each device, again and again.
SWEEPS = {"boot": f"inject -p {_ERRORS} -x /sys/bus -- /guest/init"}
MORE = {"drivers": "inject -p -s 7 -f /sys/bus -t /proc/filesystems -- /guest/init"}


@pytest.fixture(scope="module")
def guest(toolbox: Toolbox) -> LazyResults:
    """All sweeps, in one boot."""
    rootdisk = make_rootdisk(toolbox)
    settings = config.Config()
    settings.failure_delay = 0
    sweeps = SWEEPS | (MORE if ALL else {})
    return LazyResults(
        lambda: run_cases(
            toolbox,
            toolbox.kernel("stable"),
            [Case(name, script, limit=_LIMIT) for name, script in sweeps.items()],
            append="root=/dev/vda",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            files={
                "usr/bin/inject": sweep.injector(),
                "guest/init": cfs_init(),
                CARRIED: rootdisk.carried("whole"),
                config.PATH.lstrip("/"): config.format(settings),
            },
            disks=[Disk(rootdisk.disk("ext4"), discard_writes=True)],
        )
    )


@pytest.mark.parametrize("name", parameters(SWEEPS, MORE))
def test_a_call_that_fails_ends_in_the_configured_action(guest: LazyResults, name: str) -> None:
    result = guest.check(name)
    found = sweep.parse(result.stdout)
    print(f"{name}: {len(found)} runs with a fault, {result.seconds:.1f} s")
    assert list(sweep.init_faults(found)) == []
    if name == "drivers":
        return
    assert {run.n for run in found} == set(range(1, found[-1].n + 1))
    # It went through all of it: its own mounts, the disk, the child that composes, the new root.
    details = {run.detail for run in found if run.call == "fsopen"}
    assert {"proc", "sysfs", "devtmpfs", "tmpfs", "ext4", "erofs", "overlay"} <= details
    assert {"unshare", "ioctl", "setns"} <= {run.call for run in found if run.forked}
    itself = {run.call for run in found if not run.forked}
    assert {"wait4", "chroot", "mount", "unlinkat"} <= itself
    assert itself & {"access", "faccessat"}
    assert (found[-1].call, found[-1].detail) == ("execve", "/sbin/init")
    assert "init: refused: switch-root: /sbin/init: " in found[-1].said
