# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Runs of inject: how it is built, what it says, and what counts as a failure well met."""

import hashlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pyinit.initrd.report.errors import EXIT_USAGE, STEPS
from tests.vm.once import BUILD, made_once
from tests.vm.target import TARGET, compiler

HERE = Path(__file__).parent
_FLAGS = ("-std=gnu17", "-static", "-O2", "-s", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def injector() -> Path:
    """The static program for guests."""
    files = sorted((HERE / "inject").iterdir())
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    sources = [str(path) for path in files if path.suffix == ".c"]

    def make(directory: Path) -> None:
        command = [compiler(), *_FLAGS, "-o", str(directory / "inject"), *sources]
        subprocess.run(command, check=True, timeout=600)

    return made_once(BUILD / "vm-cache" / "inject", key, make) / "inject"


@dataclass(frozen=True)
class Run:
    """One run with one fault (see inject/inject.c)."""

    n: int
    call: str
    detail: str
    errno: str
    exit: int
    signal: int
    mounts: int
    """Mounts found on the target afterwards."""
    forked: bool
    """Whether the fault was in a child of the program."""
    executed: bool
    """Whether it became another program."""
    hung: bool
    """Whether it was killed after a minute."""
    whole: bool
    said: str
    record: str
    """What stood in the file of -r."""
    left: str
    """Mounts and loop devices that were not there before, if any."""
    clean: bool
    """Whether the run after it, without a fault, mounted the root (true where there was none)."""

    def __str__(self) -> str:
        fault = f"{self.call}({self.detail}): {self.errno}, call or allocation {self.n}"
        return f"{fault} -> exit {self.exit}, signal {self.signal}, said {self.said!r}"


def parse(text: str) -> list[Run]:
    """What it wrote."""
    return [Run(**json.loads(line)) for line in text.splitlines()]


# Calls before the program's own first one: the start of libc and of the interpreter. What cannot
# be started cannot name a step; it must end, with a code or a signal that is not 0. (madvise is
# advice: the snapshot comes into its place without it.)
_START = frozenset(
    "access arch_prctl brk faccessat fcntl getegid geteuid getgid getrandom gettid getuid madvise "
    "mmap mprotect mremap munmap prlimit64 readlink readlinkat rseq rt_sigaction rt_sigprocmask "
    "set_robust_list set_tid_address sigaltstack sysinfo".split()
)

_NO_ERROR = "no error"
_SET_CLOEXEC = r" 0x2\b"  # F_SETFD
# x86-64's, arm64's
_STACK = r" 0x(7ff|ffff[0-9a-f]{8}\b)"
# The older calls are musl's on x86-64, the newer glibc's, and on arm64 there are no others.
_OPEN, _STAT = r"open(?:at)?", r"(?:newfstatat|[fl]?stat)"
_MKDIR, _RENAME, _LINKS = "mkdir(?:at)?", "rename(?:at)?", "(?:readlink|symlink|unlink)(?:at)?"
_ACCESS = ("access", "faccessat")

# Whose failure may end in success, and why. Each with what must be in `detail`.
HARMLESS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "cfs-mount": (
        ("close", r"", "the descriptor is gone all the same (close(2)), and was read to its end"),
        ("write", r"^2 ", "a closed stderr does not hide the exit code"),
        # Into a buffer on the stack; what is read to be checked goes to the heap.
        ("read", _STACK, "the kernel's messages about a mount that is tried in another way"),
        ("mmap|mremap|brk|munmap|madvise", r"", "malloc has other ways to memory, or keeps it"),
        ("fcntl", _SET_CLOEXEC, "musl's open() repeats what the kernel did by O_CLOEXEC"),
    ),
}
HARMLESS["cfs-setup-root"] = (
    *HARMLESS["cfs-mount"],
    (_STAT, r"^/sys/firmware/efi$", "the UKI is compared where it can be read"),
    (
        f"{_MKDIR}|{_OPEN}|write|{_RENAME}",
        r"^/run(/(cfs|systemd)(/\S+)?)?$|^\d+ /run/(cfs|systemd)/",
        "the status record, the configuration, the list for labels: said, and the boot goes on",
    ),
    (
        f"{_MKDIR}|{_STAT}|{_OPEN}|read|{_LINKS}",
        r"^/run(/systemd(/\S+)?)?$|^/sys/dev/block|^\d+ /sys/devices/",
        "the link for systemd: said, and the boot goes on",
    ),
    (_STAT, r"^/sys/fs/selinux$", "SELinux is taken for off: what is confined may read less"),
    (_STAT, r"^\d+ /sysroot( |$)", "the disk's number, for that link"),
    (f"{_OPEN}|{_STAT}", r" \./(usr|etc|var)?$|^\d+ /sysroot/", "one more overlay: the record"),
    ("setxattr|fsetxattr|getxattr", r"", "labels that the file system does not have"),
)
HARMLESS["esp"] = (
    ("close", r"", "the descriptor is gone all the same"),
    ("fcntl", _SET_CLOEXEC, "musl's open() repeats what the kernel did by O_CLOEXEC"),
    ("mmap|mremap|brk|munmap|madvise", r"", "malloc has other ways to memory, or keeps it"),
    (f"{_OPEN}|read", r"SecureBoot", "it is unknown then"),
    (
        f"{_OPEN}|read|pread64|readlink(?:at)?",
        r"^/sys/class/block/|^\d+ /sys/devices/|/dev/vda( |$)",
        "partitions are looked at again, as they may appear late",
    ),
    ("set_robust_list|rt_sigprocmask|gettid", r"", "libc's own, around fork()"),
)
HARMLESS["init"] = (
    *HARMLESS["cfs-setup-root"],
    (
        f"{_OPEN}|read|getdents64|{_STAT}",
        r"/sys/(bus|devices/system/cpu)\b",
        "drivers: the disk may need none of them",
    ),
    (_STAT, r"/modules\.dep$", "it is looked for in two places"),
    (f"{_OPEN}|finit_module", r"/loop\.ko\b", "for kernels before 6.12 only, and they say so then"),
    ("set_robust_list|rt_sigprocmask|gettid", r"", "libc's own, around fork()"),
)


def faults(runs: list[Run], *, program: str) -> Iterator[str]:
    """What is wrong with runs in which one call failed."""
    started, tried = _first_own_call(runs), _tried(runs)
    for run in runs:
        problem = _left_behind(run) or (
            _at_start(run) if run.n < started else _said_wrong(run, program)
        )
        if problem == _NO_ERROR and run.n in tried:
            continue
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


def esp_faults(runs: list[Run], *, required: bool) -> Iterator[str]:
    """What is wrong with runs of cfs-setup-root in which a call of the look at the ESP failed.

    The carried digest is booted without what is `unproved`, unless the configuration requires it;
    and then the status record says why. A UKI that is there and cannot be read is refused.
    """
    opened = max(
        (run.n for run in runs if re.fullmatch(_OPEN, run.call) and run.detail.endswith(".EFI")),
        default=runs[-1].n,
    )
    for run in runs:
        problem = _left_behind(run)
        if not problem and run.exit == 0:
            record = json.loads(run.record or "{}")
            uki = record.get("uki", "")
            compared = re.fullmatch(f"unproved, equal: /dev/vda1:/EFI/BOOT/{TARGET.boot_file}", uki)
            if record.get("source") != "carried":
                problem = f"the record is {run.record!r}"
            elif compared and not (_retried(run) or _is_harmless(run, "esp")):
                problem = "no error"
            elif not compared and (
                run.n > opened or required or not re.fullmatch(r"not compared: \S.+", uki)
            ):
                problem = f"the record says of the UKI {uki!r}"
        elif not problem:
            problem = _said_wrong(run, "cfs-setup-root")
        if problem:
            yield f"{problem}: {run}"


def init_faults(runs: list[Run]) -> Iterator[str]:
    """What is wrong with runs of PID 1 in which a call failed.

    It ends by the configured action, which is reboot (SIGHUP, see pid_namespaces(7)), after it has
    named the step; or the failure was of no consequence, and it became the init of the new root.
    """
    started, tried = _first_own_call(runs), _tried(runs)
    # From there to its last call it frees memory, which nothing depends on.
    checked = max((run.n for run in runs if run.call in _ACCESS), default=started)
    for run in runs:
        problem = _left_behind(run)
        if problem or (run.n < started and (run.exit or run.signal)):
            pass
        elif run.executed:
            emptying = run.n > checked and run.call != "execve"
            if not (_retried(run) or emptying or run.n in tried or _is_harmless(run, "init")):
                problem = _NO_ERROR
            elif run.signal != signal.SIGINT or "root-init: done" not in run.said:
                problem = "the new root's init did not come to its end"
        elif run.call == "getpid":  # so it is not PID 1: the kernel panics
            problem = _no_line(run, "init") if run.exit == EXIT_USAGE else "neither refused"
        elif run.signal != signal.SIGHUP:
            problem = "not ended by the configured action"
        else:
            problem = _no_last_words(run)
        if problem:
            yield f"{problem}: {run}"


def _no_last_words(run: Run) -> str:
    """An initrd whose configuration was not read waits for the default time."""
    first, _, last = run.said.rpartition("\ninit: reboot in ")
    if last not in ("0 s\n", "10 s\n"):
        return "does not say what comes"
    lines = [line for line in first.split("\n") if not re.match(r"init: (warning:|root is) ", line)]
    return _no_line(replace(run, said="\n".join(lines) + "\n"), "init")


def _first_own_call(runs: list[Run]) -> int:
    """The mount point is the first thing that the program looks at."""
    return next(run.n for run in runs if run.call not in _START)


def _tried(runs: list[Run]) -> set[int]:
    """The calls for overlays that are made to see whether they could be (root/stacking.py): those
    that follow nothing on a disk have an index, all others verity=require."""
    calls = {run.n: run for run in runs}
    found: set[int] = set()
    begun, keys = 0, set[str]()
    for n in sorted(calls):
        call, detail = calls[n].call, calls[n].detail
        if (call, detail) == ("fsopen", "overlay"):
            begun, keys = n, set()
        elif call == "fsconfig":
            keys.add(detail)
        elif call == "fsmount" and begun:
            if not keys & {"verity", "index"}:
                found.update(range(begun, n + 1))
            begun = 0
    return found


def _left_behind(run: Run) -> str:
    if run.call.startswith("?") and run.call != "?0":
        return "a call that calls.c does not know"
    if run.hung:
        return "hung"
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
        return _NO_ERROR
    return _no_line(run, program) if run.exit in (2, 32) else "not a refusal, and no system error"


def _no_line(run: Run, program: str) -> str:
    steps = "|".join(STEPS)
    line = rf"{re.escape(program)}: (refused|error): ({steps}): [^\n]+\n"
    return "" if re.fullmatch(line, run.said) else "not one line that names the step"


def _retried(run: Run) -> bool:
    return run.errno == "EINTR"


def _is_harmless(run: Run, program: str) -> bool:
    return any(
        re.fullmatch(calls, run.call) and re.search(detail, run.detail)
        for calls, detail, _reason in HARMLESS[program]
    )
