# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An initrd of dracut, with systemd, in the UKI or as a second initrd in the store: what the
firmware has to read, and when the root is there. In guests of one kernel and one disk.

With `-icount` a guest's time is its instructions: 1 ns each. The disk answers at once there.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm.dracut import CARRIED as DRACUTS
from tests.vm.dracut import STABLE, TOML, initrd
from tests.vm.guest import Disk, boot
from tests.vm.initrd import CONFIG, GUEST_MODULES, HASH_MODULES, boot_initrd, configuration
from tests.vm.product import cfs_init
from tests.vm.rootdisk import CARRIED
from tests.vm.second_disk import carried, make_systemd_disk
from tests.vm.systemd_root import make_systemd_root, script_disk
from tests.vm.toolbox import Toolbox

ONE, TWO = "one initrd in the UKI", "a second one in the store"
_TRANSIENT = '[etc]\nmount = "transient"\n'
_SECOND = f'[digest]\nsource = "first-initrd"\n{_TRANSIENT}'
# Before systemd leaves the initrd: the root is composed. Sectors of 512 bytes.
_HOOK = "read -r _ _ read _ </sys/block/vda/stat; echo $read $(cat /proc/uptime) >/run/at-root\n"
_HOOKS = ("usr/lib/dracut/hooks", "var/lib/dracut/hooks")
_INCLUDE: dict[str, bytes | str] = {f"{place}/pre-pivot/99-bench.sh": _HOOK for place in _HOOKS}
_REPORT = "cat /run/at-root\n"


@dataclass(frozen=True)
class Cost:
    """`in_uki`: bytes of the initrd there. `seconds`: from the kernel's start to the root; `read`:
    bytes of the disk until then."""

    in_uki: int
    seconds: float
    read: int


def costs(work: Path, *, icount: bool) -> dict[str, Cost]:
    """By the form. `work`: an empty directory."""
    toolbox = Toolbox()
    root, kernel = make_systemd_root(toolbox), toolbox.kernel("stable")
    second = initrd(STABLE, kernel, {TOML: _SECOND}, add=("cfs",), include=_INCLUDE)
    disk, digest = make_systemd_disk(toolbox, root, second.file, "bench")
    whole: dict[str, bytes | str] = {TOML: _TRANSIENT, DRACUTS: root.carried(root.first)}
    one = initrd(STABLE, kernel, whole, add=("cfs",), include=_INCLUDE)
    first = work / "first"
    first.write_bytes(
        boot_initrd(
            kernel,
            cfs_init(),
            files={CARRIED: carried(root.first.digest, digest), CONFIG: configuration()},
            modules=(*GUEST_MODULES, *HASH_MODULES),
        )
    )
    subprocess.run(["zstd", "-q", "-19", "--rm", first], check=True, timeout=600)
    archive = script_disk(work / "script.tar", _REPORT)
    found = {}
    for name, data in ((ONE, one.data), (TWO, (work / "first.zst").read_bytes())):
        console = boot(
            toolbox,
            kernel=kernel.vmlinuz,
            initrd=data,
            append="root=/dev/vda",
            disks=[Disk(disk, discard_writes=True), Disk(archive, read_only=True)],
            memory=1024,
            icount=icount,
            limit=3600,
        )
        sectors, seconds, _ = console.results.decode().split()
        found[name] = Cost(len(data), float(seconds), int(sectors) * 512)
    return found
