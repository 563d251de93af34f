# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One verified mount, in instructions of a guest: the load of the host does not move them."""

import statistics

from tests.vm.bundle import bundle
from tests.vm.cases import Case, run_cases
from tests.vm.guest import Disk
from tests.vm.product import mount_files
from tests.vm.store import Store, make_store
from tests.vm.toolbox import Toolbox

ROUNDS = 9
KERNEL = "stable"
OURS, PEER = "cfs-mount", "mount.composefs"


def instructions() -> dict[str, float]:
    """Median for each program, from fork to exit, the kernel's work included."""
    toolbox = Toolbox()
    store = make_store(toolbox)
    results = run_cases(
        toolbox,
        toolbox.kernel(KERNEL),
        [Case("bench", _script(store), limit=600)],
        setup="mount -t ext4 -o ro /dev/vda /disk",
        disks=[Disk(store.disk("ext4"), discard_writes=True)],
        files={**mount_files(), **bundle(PEER, f"usr/sbin/{PEER}", toolbox.tree)},
        icount=True,
        limit=900,
    )
    lines = results.check("bench").stdout.split("\n")
    found: dict[str, list[int]] = {OURS: [], PEER: []}
    for name, count in (line.split() for line in lines if line):
        found[name].append(int(count))
    return {name: statistics.median(counts) for name, counts in found.items()}


def _script(store: Store) -> str:
    """In turns; the first of each warms the page cache and is not counted."""
    image = f"/disk/repo/images/{store.sha256}"
    ours = f"/usr/bin/{OURS} --object-store /disk/repo --digest {store.sha256} /mnt"
    loader = f"/opt/{PEER}/ld-linux-x86-64.so.2 --library-path /opt/{PEER} /opt/{PEER}/{PEER}"
    peer = f"{loader} -o basedir=/disk/repo/objects,digest={store.sha256} {image} /mnt"
    once = "\n".join(
        f"count=$(nanoseconds {command}) || exit 1; umount /mnt; [ $i = 0 ] || echo {name} $count"
        for name, command in ((OURS, ours), (PEER, peer))
    )
    rounds = " ".join(str(number) for number in range(ROUNDS + 1))
    return f"for i in {rounds}; do\n{once}\ndone\n"
