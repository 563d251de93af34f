# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Runs of inject.c: how it is built, what it says, and what counts as a failure well met."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyinit.initrd.errors import STEPS
from tests.vm.once import BUILD, made_once

HERE = Path(__file__).parent
_FLAGS = ("-std=gnu17", "-static", "-O2", "-s", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def injector() -> Path:
    """The static program for guests."""
    sources = [HERE / "inject.c", HERE / "calls.h"]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def make(directory: Path) -> None:
        command = ["gcc", *_FLAGS, "-o", str(directory / "inject"), str(sources[0])]
        subprocess.run(command, check=True, timeout=120)

    return made_once(BUILD / "vm-cache" / "inject", key, make) / "inject"


@dataclass(frozen=True)
class Run:
    """One run with one fault (see inject.c)."""

    n: int
    call: str
    detail: str
    errno: str
    exit: int
    signal: int
    mounts: int
    """Mounts found on the target afterwards."""
    whole: bool
    said: str
    left: str
    """Mounts and loop devices that were not there before, if any."""
    clean: bool
    """Whether the run after it, without a fault, mounted the root (true where there was none)."""

    def __str__(self) -> str:
        fault = f"{self.call}({self.detail}): {self.errno}, call or allocation {self.n}"
        return f"{fault} -> exit {self.exit}, signal {self.signal}, said {self.said!r}"


def parse(text: str) -> list[Run]:
    """What inject.c wrote."""
    return [Run(**json.loads(line)) for line in text.splitlines()]


# Calls before the program's own first one: the start of libc and of the interpreter. What cannot
# be started cannot name a step; it must end, with a code or a signal that is not 0.
_START = frozenset(
    "access arch_prctl brk fcntl getegid geteuid getgid getrandom gettid getuid mmap mprotect "
    "mremap munmap prlimit64 readlink readlinkat rseq rt_sigaction rt_sigprocmask "
    "set_robust_list set_tid_address sigaltstack sysinfo".split()
)

# Whose failure may end in success, and why. Each with what must be in `detail`.
HARMLESS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "cfs-mount": (
        ("close", r"", "the descriptor is gone all the same (close(2)), and was read to its end"),
        ("write", r"^2 ", "a closed stderr does not hide the exit code"),
        # Into a buffer on the stack; what is read to be checked goes to the heap.
        ("read", r" 0x7ff", "the kernel's messages about a mount that is tried in another way"),
        ("mmap|mremap|brk|munmap|madvise", r"", "malloc has other ways to memory, or keeps it"),
    ),
}
HARMLESS["cfs-setup-root"] = (
    *HARMLESS["cfs-mount"],
    ("newfstatat", r"^/sys/firmware/efi$", "the UKI is compared where it can be read"),
    (
        "mkdir|newfstatat|openat|read|readlink|write|rename|unlink|symlink",
        r"^/run\b|^/sys/dev/block|^\d+ |^$",
        "the status record and the link for systemd: said, and the boot goes on",
    ),
    ("setxattr|fsetxattr|getxattr", r"", "labels that the file system does not have"),
)


def faults(runs: list[Run], *, program: str) -> Iterator[str]:
    """What is wrong with runs in which one call failed."""
    started = _first_own_call(runs)
    for run in runs:
        problem = _left_behind(run) or (
            _at_start(run) if run.n < started else _said_wrong(run, program)
        )
        if problem:
            yield f"{problem}: {run}"


def killed_faults(runs: list[Run]) -> Iterator[str]:
    """What is wrong with runs that were killed."""
    for run in runs:
        if run.signal != 9:
            yield f"not killed: {run}"
        elif run.mounts and not (run.whole and run.mounts == 1):
            yield f"{run.mounts} mounts, not a whole root: {run}"
        elif run.left or not run.clean:
            yield f"left {run.left!r}, a clean run after it: {run.clean}: {run}"


def memory_faults(runs: list[Run]) -> Iterator[str]:
    """What is wrong with runs in which an allocation failed."""
    # Before that the interpreter starts, without the exceptions that it would need: it aborts, and
    # at some places crashes. Not a line of ours has run by then.
    started = next(run.n for run in runs if ": out of memory" in run.said)
    for run in runs:
        problem = _left_behind(run)
        if not problem and run.signal and run.n > started:
            problem = "crashed"
        if problem:
            yield f"{problem}: {run}"


def _first_own_call(runs: list[Run]) -> int:
    """The mount point is the first thing that the program looks at."""
    return next(run.n for run in runs if run.call not in _START)


def _left_behind(run: Run) -> str:
    if run.call.startswith("?") and run.call != "?0":
        return "a call that calls.h does not know"
    if run.left:
        return f"left behind {run.left!r}"
    if not run.clean:
        return "the next run did not work"
    failed = run.exit != 0
    if failed and run.mounts:
        return "failed, and mounted"
    if not failed and (run.mounts != 1 or not run.whole):
        return "succeeded without a whole root"
    return ""


def _at_start(run: Run) -> str:
    return "" if run.exit or run.signal or run.mounts == 1 else "neither ended nor went on"


def _said_wrong(run: Run, program: str) -> str:
    if run.exit == 0:
        if _retried(run) or _is_harmless(run, program):
            return ""
        return "no error"
    steps = "|".join(STEPS)
    line = rf"{re.escape(program)}: (refused|error): ({steps}): [^\n]+\n"
    if run.exit not in (2, 32) or not re.fullmatch(line, run.said):
        return "not one line that names the step"
    return ""


def _retried(run: Run) -> bool:
    return run.errno == "EINTR"


def _is_harmless(run: Run, program: str) -> bool:
    return any(
        re.fullmatch(calls, run.call) and re.search(detail, run.detail)
        for calls, detail, _reason in HARMLESS[program]
    )
