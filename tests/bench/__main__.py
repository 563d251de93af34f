# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Size, start to exit and memory of build/cfs-init beside what they are measured against."""

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import mounts
from tests.bench.guest import KERNEL, OURS, PEER, instructions
from tests.bench.measure import PEAK, build_static, peak_kib, start_to_exit

EXECUTABLE = Path("build/cfs-init")
ROUNDS = 200

STATIC_C = """
#include <stdio.h>
int main(void) { return puts("cfs-mount 0.1.0") < 0; }
"""


def main() -> None:
    say(f"Python {platform.python_version()}, {platform.machine()}, medians of {ROUNDS} runs")
    size = EXECUTABLE.stat().st_size
    packed = subprocess.run(
        ["zstd", "-19", "-q", "-c", EXECUTABLE], capture_output=True, check=True, timeout=120
    )
    say(f"{EXECUTABLE}: {size:,} bytes, zstd -19: {len(packed.stdout):,}")

    with tempfile.TemporaryDirectory() as directory:
        static_c = build_static(STATIC_C, Path(directory) / "static-c")
        peak = build_static(PEAK.read_text(), Path(directory) / "peak")
        commands = {
            "cfs-mount --version": [str(EXECUTABLE), "cfs-mount", "--version"],
            "python3 -I -S -c pass": ["/usr/bin/python3", "-I", "-S", "-c", "pass"],
            "static C program": [str(static_c)],
        }
        peaks = {name: peak_kib(peak, command) for name, command in commands.items()}
        times = start_to_exit(commands, ROUNDS)

    if shutil.which("valgrind"):
        say("instructions of the program itself, millions (callgrind):")
        for name in ("cfs-mount --version", "static C program"):
            say(f"{name:24}{own_instructions(commands[name]) / 1e6:10.2f}")

    own = times["cfs-mount --version"][0]
    say(f"{'start to exit':24}{'median ms':>10}{'least ms':>10}{'ratio':>8}{'peak KiB':>10}")
    for name, (median, least) in times.items():
        say(f"{name:24}{median:10.2f}{least:10.2f}{median / own:8.2f}{peaks[name]:10,}")

    if why := mounts.missing():
        say(f"one mount on this machine: left out, {why}")
    else:
        found = mounts.mounts()
        say(f"one mount on this machine, without fs-verity, {mounts.ROUNDS} in turn:")
        for name, (median, least) in found.items():
            ratio = least / found[OURS][1]
            say(f"{name:24}{median:10.2f}{least:10.2f}{ratio:8.2f}")

    counts = instructions()
    say(f"one verified mount on Linux {KERNEL}, millions of guest instructions, kernel included:")
    for name, count in counts.items():
        say(f"{name:24}{count / 1e6:10.2f}{'':10}{count / counts[OURS]:8.2f}")
    say(f"({PEER} is Debian's package, dynamic; the second column of numbers is the ratio)")


def own_instructions(command: list[str]) -> int:
    """Without the kernel's."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*tool, *command], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stderr.partition("Collected :")[2].split()[0])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


main()
