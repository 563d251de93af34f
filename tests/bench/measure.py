# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Start to exit of programs, run in turns so that all see the same machine; and peak memory."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PEAK = Path(__file__).with_name("peak.c")


def build_static(source: str, target: Path) -> Path:
    """A C program as small and quick as the compiler makes it."""
    return build(source, target, "-static")


def build(source: str, target: Path, *options: str) -> Path:
    """A C program, of a distribution's compiler and its libraries."""
    command = ["gcc", "-Os", "-s", "-x", "c", "-", "-o", str(target), *options]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return target


def start_to_exit(
    commands: Mapping[str, list[str]], rounds: int, after: Callable[[], None] = lambda: None
) -> dict[str, tuple[float, float]]:
    """(median, least) in milliseconds; no environment, output to /dev/null. `after` each run.

    Wall-clock time: that of the processor would miss the kernel's work of exec and exit.
    """
    times: dict[str, list[float]] = {name: [] for name in commands}
    to_null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            pid = os.posix_spawn(command[0], command, {}, file_actions=to_null)
            _, status = os.waitpid(pid, 0)
            times[name].append((time.perf_counter() - start) * 1e3)
            if status:
                raise RuntimeError(f"{command} ended with status {status}")
            after()
    return {name: (statistics.median(times[name]), min(times[name])) for name in commands}


def peak_kib(peak: Path, command: list[str]) -> int:
    """Of one run, by the program that `peak.c` is the source of."""
    done = subprocess.run([peak, *command], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stderr.splitlines()[-1])
