# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk by which somebody who had it takes over the initrds that read it.

It is that of rootdisk.py, with the files of bait.py; these go further than to show that they were
read. The program that is asked next says yes to everything, and the disk is a root, and a /usr, of
the attacker's own. Each says "attacked" on the console when it is executed.
"""

import re
import shutil
import tempfile
from pathlib import Path

from . import disk_watch
from .rootdisk import RootDisk
from .store import sealed_disk
from .toolbox import Toolbox

VAR_ON_DISK = '[etc]\nmount = "transient"\n[var]\nmount = "bind"\n'

_MARK = "attacked: "
_SAY = f'echo "{_MARK}{{0}}" >/dev/console\n'
_SOURCED = _SAY + "printf '#!/bin/sh\\nexit 0\\n' >/usr/bin/cfs-setup-root\n"
_SOURCED_FILES = ("etc/sysconfig/readonly-root", "etc/sysconfig/autofsck")
_PROGRAM = "#!/bin/busybox sh\n" + _SAY
_PROGRAMS = ("bin/cfs-setup-root", "bin/udevadm", "bin/run-init", "sbin/run-init", "sbin/init")
_LAST = ("run-init", "init")
_POWER_OFF = "/bin/busybox poweroff -f\n"
_OF_BUSYBOX = ("sh", "mount", "modprobe", "sleep")


def hostile_disk(toolbox: Toolbox, rootdisk: RootDisk) -> Path:
    """An ext4 without a partition table; do not write to it. /var/true is in its state, for
    VAR_ON_DISK."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        shutil.copytree(rootdisk.tree, tree, symlinks=True)
        for directory in ("proc", "sys", "dev", "run", "bin", "sbin"):
            (tree / directory).mkdir(exist_ok=True)
        for file in _SOURCED_FILES:
            (tree / file).write_text(_SOURCED.format(file))
        for file in _PROGRAMS:
            end = _POWER_OFF if file.endswith(_LAST) else ""
            (tree / file).write_text(_PROGRAM.format(file) + end)
            (tree / file).chmod(0o755)
        busybox = tree / "bin/busybox"
        shutil.copyfile(toolbox.path("usr/bin/busybox"), busybox)
        busybox.chmod(0o755)
        for program in _OF_BUSYBOX:
            (tree / "bin" / program).unlink(missing_ok=True)
            (tree / "bin" / program).symlink_to("busybox")
        state = tree / "state/deploy" / rootdisk.digests["whole"] / "var"
        state.mkdir(parents=True)
        shutil.copy(busybox, state / "true")
        return sealed_disk(toolbox, tree, rootdisk.seal)


def attacked(text: str) -> list[str]:
    """The lines that say so on a console."""
    return [line for line in text.splitlines() if line.startswith((_MARK, "bait: "))]


def check_composed(text: str, digest: str) -> None:
    """The console of a watched boot of it: nobody but us touched the disk before the sealed root
    came up, configured as VAR_ON_DISK; a program was executed in its /var."""
    mounts = re.findall(r"^/proc/self/mountinfo: \d+ \d+ (.*)$", text, re.MULTILINE)
    root = rf" / / ro.* - overlay composefs:{digest} .*verity=require"
    assert [mount for mount in mounts if re.search(root, mount)], text
    assert [mount for mount in mounts if re.search(r" /var rw,nosuid,nodev\b(?!,noexec)", mount)]
    # The disk as such is nowhere but where we show it.
    shown = [mount.split()[2] for mount in mounts if re.search(r" - ext4 ", mount)]
    assert sorted(shown) == ["/sysroot", "/var"]
    assert re.search(r"^/var/true: exits 0$", text, re.MULTILINE)
    assert "root-init: done" in text
    device = re.search(
        r'^/run/cfs/root.json: .*"device": "(/dev/block/[0-9:]+)"', text, re.MULTILINE
    )
    assert device, text
    disk_watch.check(disk_watch.on_console(text), device[1], "cfs-setup-root")
