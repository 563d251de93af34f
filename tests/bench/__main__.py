# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What build/cfs-init costs beside what it is measured against, as tables in Markdown."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import containers, embedded, guest, initrds, mounts, peers, store, tpm
from tests.bench.measure import PEAK, build, build_static, peak_kib, start_to_exit
from tests.vm.toolbox import Toolbox

EXECUTABLE = Path("build/cfs-init")
ROUNDS = 200
_STATIC, _DYNAMIC = "static C program", "C program with libcrypto"

DYNAMIC_C = """
unsigned long OpenSSL_version_num(void);
int main(void) { return OpenSSL_version_num() == 0; }
"""
STATIC_C = """
#include <stdio.h>
int main(void) { return puts("cfs-mount 0.1.0") < 0; }
"""


def main() -> None:
    model = next(
        line.partition(":")[2].strip()
        for line in [*Path("/proc/cpuinfo").read_text().splitlines(), "model name: unknown"]
        if line.startswith("model name")
    )
    load = os.getloadavg()[0]
    say(
        f"{time.strftime('%Y-%m-%d')}, Linux {platform.release().partition('-')[0]}, "
        f"{os.cpu_count()} cores of {model}, load {load:.1f}"
    )
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        static_c = build_static(STATIC_C, work / "static-c")
        _sizes(static_c)
        dynamic_c = build(DYNAMIC_C, work / "dynamic-c", "-lcrypto")
        _starts(static_c, dynamic_c, build_static(PEAK.read_text(), work / "peak"))
        _mounts_here()
        for line in (*store.figures(), *containers.figures()):
            say(line)
        for kernel, costs in guest.on_kernels(work).items():
            _guest(kernel, costs)
        _tpm(work / "tpm")
        _initrds(work)
        _embedded()


def _sizes(static_c: Path) -> None:
    rows: list[list[str | float]] = []
    mount, setup = peers.mount(Toolbox()), peers.setup_root()
    for name, files in (
        ("cfs-init", [EXECUTABLE]),
        (peers.MOUNT, [*mount.values()]),
        (peers.MOUNT_HEAD, [*peers.mount_head().values()]),
        (peers.SETUP_ROOT, [*setup.values()]),
        (_STATIC, [static_c]),
    ):
        if files:
            alone = peers.sizes(files[:1])
            rows.append([name, *alone, *peers.sizes(files)])
    table(
        "Size in bytes",
        ["File", "alone", "zstd -19", "with its libraries", "zstd -19"],
        rows,
    )


def _starts(static_c: Path, dynamic_c: Path, peak: Path) -> None:
    commands = {
        "cfs-mount --version": [str(EXECUTABLE), "cfs-mount", "--version"],
        "python3 -I -S -c pass": ["/usr/bin/python3", "-I", "-S", "-c", "pass"],
        _STATIC: [str(static_c)],
        _DYNAMIC: [str(dynamic_c)],
    }
    times = start_to_exit(commands, ROUNDS)
    own = times["cfs-mount --version"][1]
    table(
        f"Start to exit, {ROUNDS} in turn, ms",
        ["Program", "median", "least", "ratio of the least", "peak KiB"],
        [
            [name, median, least, least / own, peak_kib(peak, commands[name])]
            for name, (median, least) in times.items()
        ],
    )
    if shutil.which("valgrind"):
        commands["cfs-mount, a usage error"] = [str(EXECUTABLE), "cfs-mount", "--no-such"]
        table(
            "Instructions of the program itself, millions",
            ["Program", "instructions"],
            [
                [name, own_instructions(command) / 1e6]
                for name, command in commands.items()
                if not name.startswith("python3")
            ],
        )


def _mounts_here() -> None:
    if why := mounts.missing():
        say(f"\nOne mount on this machine: left out, {why}")
        return
    found = mounts.mounts()
    least = found[peers.MOUNT][1]
    table(
        f"One mount here, files on tmpfs, without fs-verity, {mounts.ROUNDS} in turn, ms",
        ["Program", "median", "least", "ratio of the least"],
        [[name, times[0], times[1], times[1] / least] for name, times in found.items()],
    )


def _guest(kernel: str, costs: guest.Costs) -> None:
    ours = (*guest.OURS, peers.MOUNT_HEAD)
    others = {what: program for what, program in costs if program not in ours}
    table(
        f"In a guest with Linux {kernel}, kernel included: millions of instructions",
        ["What", "Program", "instructions", "ratio", "peak KiB", "system calls", "opens"],
        [
            [
                what, program, cost.median / 1e6,
                cost.median / costs[what, others[what]].median if what in others else "",
                cost.peak_kib, cost.calls, cost.opens,
            ]
            for (what, program), cost in costs.items()
        ],
    )  # fmt: skip


def _tpm(work: Path) -> None:
    work.mkdir()
    costs = tpm.costs(work)
    least = costs[tpm.OFF].median
    table(
        "What a TPM costs the boot helper, without waiting for it: millions of instructions",
        ["Configured", "instructions", "more than without", "system calls"],
        [
            [what, cost.median / 1e6, (cost.median - least) / 1e6, cost.calls]
            for what, cost in costs.items()
        ],
    )


def _initrds(work: Path) -> None:
    for icount in (True, False):
        place = work / f"initrds-{icount}"
        place.mkdir()
        found = initrds.costs(place, icount=icount)
        least = found[initrds.TWO].seconds
        table(
            "An initrd with systemd in the UKI, and as a second one; until the root is composed"
            + (", in instructions: 1 ns each" if icount else ""),
            ["Form", "bytes in the UKI", "seconds", "ratio", "read from the disk"],
            [
                [name, cost.in_uki, cost.seconds, cost.seconds / least, cost.read]
                for name, cost in found.items()
            ],
        )


def _embedded() -> None:
    for icount in (True, False):
        found = embedded.costs(icount=icount)
        table(
            "An image in the UKI, and one that is named by its digest; until the root's init starts"
            + (", in instructions: 1 ns each" if icount else ""),
            ["Form", "bytes of the image", "bytes of the initrd", "seconds", "ratio"],
            [
                [
                    form, cost.image, cost.initrd, cost.seconds,
                    cost.seconds / found[size, embedded.NAMED].seconds,
                ]
                for (size, form), cost in found.items()
            ],
        )  # fmt: skip


def own_instructions(command: list[str]) -> int:
    """Without the kernel's; whatever it ends with."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*tool, *command], capture_output=True, text=True, check=False, timeout=60
    )
    return int(done.stderr.partition("Collected :")[2].split()[0])


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
    say(f"\n{title}\n")
    say("| " + " | ".join(columns) + " |")
    say("|---" * len(columns) + "|")
    for row in rows:
        say("| " + " | ".join(map(shown, row)) + " |")


def shown(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


main()
