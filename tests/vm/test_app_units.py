# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images that systemd mounts by name, and what runs in them, in a real root: docs/howto/apps.md.

The image is "second", a whole root as the running one is. What the root has not comes on the second
disk: our program, its unit and Debian's systemd-nspawn.
"""

import os
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest

from . import dracut, suites
from .guest import Disk, boot
from .initrd import BOOT_MODULES, CONFIG, boot_initrd, configuration
from .once import BUILD, made_once
from .product import cfs_init
from .rootdisk import CARRIED
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .toolbox import Toolbox

UNIT = dracut.MODULE / "cfs-mount@.service"
APPEND = "root=/dev/vda rw systemd.gpt_auto=0"
SCRIPT = r"""
echo "state: $(systemctl is-system-running --wait)"
mkdir -p /run/over /run/systemd/system
cp /run/test/cfs-mount /run/test/systemd-nspawn /run/over/
mount -t overlay over /usr/bin -o lowerdir=/run/over:/usr/bin
cp /run/test/cfs-mount@.service /run/systemd/system/
systemctl daemon-reload
place=/run/cfs/images/second
shows() { findmnt -n -o OPTIONS "$place" | grep -o '^ro,nosuid,nodev'; }

systemctl start cfs-mount@second.service || journalctl -b -o cat -u cfs-mount@second.service
echo "started: $(shows) $(cat $place/etc/hostname)"
# Files of each owner and mode: overlayfs looks at the objects with the rights of the service.
echo "read: $(find $place -xdev -type f -exec cat {} + 2>&1 >/dev/null | wc -l)"
echo "for a user: $(setpriv --reuid 65534 --clear-groups cat $place/etc/hostname)"
systemctl stop cfs-mount@second.service
echo "stopped: $(systemctl is-active cfs-mount@second.service) $(shows)"

run() {
    systemd-run -q --wait --pipe -p Requires=cfs-mount@second.service \
        -p After=cfs-mount@second.service -p RootDirectory=$place -p MountAPIVFS=yes "$@"
}
echo "service: $(run cat /etc/hostname)"
echo "its writes: $(run touch /usr/x 2>&1 | grep -c Read-only)"
nspawn() {
    systemd-nspawn -q --directory=$place --register=no --keep-unit --pipe --resolv-conf=off \
        --timezone=off --link-journal=no "$@" 2>/run/nspawn || cat /run/nspawn
}
echo "container: $(nspawn --read-only cat /etc/hostname)"
echo "volatile: $(nspawn --volatile=overlay sh -c 'echo w >/usr/x && cat /usr/x /etc/hostname')"

systemctl start cfs-mount@other.service
echo "unknown: $? $(journalctl -b -o cat -u cfs-mount@other.service | grep -c refused:)"
"""
SAYS = (
    "state: running", "started: ro,nosuid,nodev second", "read: 0", "for a user: second",
    "stopped: inactive ", "service: second", "its writes: 1", "container: second",
    "volatile: w", "unknown: 1 1",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.fixture(scope="module")
def nspawn(toolbox: Toolbox) -> Path:
    """Of the suite that the root is of, whose libraries it takes."""
    tree = made_once(
        BUILD / "vm-cache" / "systemd-container",
        suites.STABLE,
        lambda directory: toolbox.fetch(suites.STABLE, ["systemd-container"], directory),
    )
    return tree / "usr/bin/systemd-nspawn"


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")
@pytest.mark.parametrize(
    "role", ["stable", pytest.param("newest", marks=pytest.mark.all_only)]
)  # fmt: skip
def test_what_systemd_mounts_and_runs(
    toolbox: Toolbox, root: SystemdRoot, nspawn: Path, tmp_path: Path, role: str
) -> None:
    first, second = (Digest.parse(each.digest, "a test") for each in (root.first, root.second))
    kernel = toolbox.kernel(role)
    initrd = boot_initrd(
        kernel, cfs_init(), modules=BOOT_MODULES,
        files={
            CONFIG: configuration(),
            CARRIED: payload_write.write([first], {"app.second": second}),
        },
    )  # fmt: skip
    more = {"cfs-mount": cfs_init(), UNIT.name: UNIT, "systemd-nspawn": nspawn}
    archive = script_disk(tmp_path / "script.tar", SCRIPT, more)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=initrd, append=APPEND, memory=1024, limit=480,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=tmp_path / "console.log",
    )  # fmt: skip
    assert not console.timed_out, console.tail
    lines = [line.rstrip("\n") for line in console.results.decode(errors="replace").splitlines()]
    for line in SAYS:
        assert lines.count(line) == 1, "\n".join(lines)
