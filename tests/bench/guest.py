# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One verified mount and one run of the boot helper, in instructions of a guest: the load of the
host does not move them. Peak memory, system calls and opens of the same."""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyinit.host.config import setup_root_conf
from pyinit.initrd.source import config
from tests.bench import peers
from tests.bench.images import SIZES, make_images
from tests.bench.measure import PEAK, build_static
from tests.vm.bundle import bundle
from tests.vm.cases import Case, run_cases
from tests.vm.guest import Disk
from tests.vm.initrd import GUEST_MODULES, HASH_MODULES
from tests.vm.kernels import MOUNTS
from tests.vm.once import made_once
from tests.vm.product import cfs_init
from tests.vm.rootdisk import CARRIED, RootDisk, make_rootdisk
from tests.vm.store import CACHE, make_store
from tests.vm.toolbox import Toolbox

ROUNDS = 9
OURS = MOUNT, HELPER = "cfs-mount", "cfs-setup-root"
# The kernel has work of its own in the first seconds after a boot.
_WARM_UP = "warm-up"
_TOML = '[etc]\nmount = "none"\n\n[var]\nmount = "none"\n'
_PEAK, _TRACE = "/usr/bin/peak", "/usr/bin/strace -f -qq -o /tmp/trace"


@dataclass
class Cost:
    """Of one program doing one thing."""

    instructions: list[int] = field(default_factory=list)
    peak_kib: int = 0
    calls: int = 0
    opens: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.instructions)


class _Sealed(RootDisk):
    """As composefs-rs has it: a repository is one with fs-verity if this file is, and there is
    state for an image, wanted or not."""

    seal = f"{RootDisk.seal}verity-enable composefs/meta.json\n"


def _root_disk(toolbox: Toolbox) -> _Sealed:
    plain = make_rootdisk(toolbox)

    def make(directory: Path) -> None:
        shutil.copytree(plain.tree, directory / "tree", symlinks=True)
        for name in ("etc", "var"):
            (directory / "tree/state/deploy" / plain.digests["whole"] / name).mkdir(parents=True)

    directory = made_once(CACHE / "bench-root", repr(plain.digests), make)
    return _Sealed(toolbox, directory / "tree", plain.digests)


Costs = dict[tuple[str, str], Cost]
"""By what is done and by the program."""


def on_kernels(work: Path) -> dict[str, Costs]:
    """By the version of the kernel. `work`: an empty directory."""
    toolbox = Toolbox()
    peak = build_static(PEAK.read_text(), work / "peak")
    found = {}
    for role in MOUNTS:
        kernel = toolbox.kernel(role)
        found[kernel.series] = _costs(toolbox, role, peak)
    return found


def _costs(toolbox: Toolbox, role: str, peak: Path) -> Costs:
    store, images, root = make_store(toolbox), make_images(toolbox), _root_disk(toolbox)
    helper, head = peers.setup_root(), peers.mount_head()
    whole = root.digests["whole"]
    mounts = [(_WARM_UP, "store", store.sha256)]
    mounts += [(f"mount, {size:,} entries", "images", images.digests[size]) for size in SIZES]
    others = [peers.MOUNT, *([peers.MOUNT_HEAD] if head else [])]
    scripts = {what: _mount(disk, digest, others) for what, disk, digest in mounts}
    boots = {HELPER: f"/usr/bin/{HELPER} --sysroot /sysroot"}
    if helper:
        boots[peers.SETUP_ROOT] = f"{peers.command(peers.SETUP_ROOT)} --sysroot /sysroot"
    scripts["boot"] = _script(
        boots,
        "mount --bind /root /sysroot",
        "umount -l /sysroot; umount -l /sysroot; rm -rf /run/cfs",
    )
    results = run_cases(
        toolbox,
        toolbox.kernel(role),
        [Case(_name(what), script, limit=600, leaks=True) for what, script in scripts.items()],
        setup=(
            "mkdir -p /store /images /root /sysroot\n"
            "mount -t ext4 -o ro /dev/vda /store && mount -t ext4 -o ro /dev/vdb /images && "
            "mount -t ext4 -o ro /dev/vdc /root"
        ),
        modules=(*GUEST_MODULES, *HASH_MODULES),
        disks=[Disk(tree.disk("ext4"), discard_writes=True) for tree in (store, images, root)],
        files={
            f"usr/bin/{MOUNT}": cfs_init(),
            f"usr/bin/{HELPER}": cfs_init(),
            "usr/bin/peak": peak,
            **bundle("strace", "usr/bin/strace"),
            **peers.mount(toolbox),
            **head,
            **helper,
            CARRIED: root.carried("whole"),
            "usr/lib/composefs/setup-root-conf.toml": _TOML,
            "usr/lib/composefs/setup-root.conf": config.format(
                setup_root_conf.read(_TOML.encode(), "the bench's")
            ),
        },
        append=f"composefs={whole}",
        # With less than 512 MiB Linux gives no huge pages unless it is told to.
        memory=1024,
        icount=True,
        limit=3600,
    )
    return {
        (what, program): cost
        for what in scripts
        if what != _WARM_UP
        for program, cost in _read(results.check(_name(what)).stdout).items()
    }


def _name(what: str) -> str:
    return what.replace(", ", "-").replace(" ", "-").replace(",", "")


def _mount(disk: str, digest: str, others: Sequence[str]) -> str:
    repository = f"/{disk}/repo"
    options = f"basedir={repository}/objects,digest={digest},verity"
    commands = {MOUNT: f"/usr/bin/{MOUNT} --object-store {repository} --digest {digest} /mnt"}
    for name in others:
        commands[name] = f"{peers.command(name)} -o {options} {repository}/images/{digest} /mnt"
    return _script(commands, ":", "umount /mnt")


def _script(commands: Mapping[str, str], before: str, after: str) -> str:
    """In turns; the first of each warms the page cache and is not counted."""
    lines = [f"for i in {' '.join(map(str, range(ROUNDS + 1)))}; do"]
    for name, command in commands.items():
        lines += [
            f"{before}; count=$(nanoseconds {command} 2>/tmp/said) || {{ cat /tmp/said; exit 1; }}",
            f"{after}; [ $i = 0 ] || echo {name} instructions $count",
        ]
    lines.append("done")
    for name, command in commands.items():
        lines += [
            f"{before}; {_PEAK} {command} 2>/tmp/said || exit",
            f"{after}; echo {name} peak $(tail -n 1 /tmp/said)",
            f"{before}; {_TRACE} {command} 2>/tmp/said || exit",
            f"{after}; echo {name} calls $(grep -c '(' /tmp/trace)",
            f"echo {name} opens $(grep -cE ' open(at2?|_by_handle_at)?\\(' /tmp/trace)",
        ]
    return "\n".join(lines) + "\n"


def _read(text: str) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    for line in text.splitlines():
        name, kind, count = line.split()
        cost = found.setdefault(name, Cost())
        if kind == "instructions":
            cost.instructions.append(int(count))
        elif kind == "peak":
            cost.peak_kib = int(count)
        elif kind == "calls":
            cost.calls = int(count)
        else:
            cost.opens = int(count)
    return found
