# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Many test cases to one boot: each a shell script in the guest, with a limit and an account.

The guest writes records to the result port, `@ <case> <field> <length>\\n` and that many bytes, so
that what was reported before it died is kept.
"""

import math
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyinit.host.uki.cpio import Entry, write_cpio

from .guest import BEGUN, Console, Disk, boot, pace
from .initrd import GUEST_MODULES, guest_initrd
from .toolbox import Kernel, Toolbox

TIMED_OUT = 124
_SETUP = "setup"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_BETWEEN_SECONDS = 90.0
_SETUP_SECONDS = 60
# A limit in a guest cannot be looked at again while it runs, so it is longer from the start: two of
# 488 rows took more than three times as long when 18 processes wanted two cores.
_PATIENCE = 10


@dataclass(frozen=True)
class Case:
    """A script for busybox sh, and what is expected of it (see `check`)."""

    name: str
    script: str
    limit: int = 20
    """Seconds on an idle machine; then it and its process group are killed and the code is 124.
    A case that is to hang is killed after just these, the others later (`guest_limit`)."""
    code: int = 0
    stdout: str | None = None
    """Regular expression to be found in stdout; None: anything."""
    stderr: str | None = None
    leaks: bool = False
    """Whether it may leave something behind."""


@dataclass(frozen=True)
class Result:
    """What a case did."""

    name: str
    code: int
    seconds: float
    stdout: str
    stderr: str
    kernel: str
    """The kernel's messages meanwhile."""
    before: list[str] = field(repr=False)
    after: list[str] = field(repr=False)

    @property
    def timed_out(self) -> bool:
        """Whether its limit ended it."""
        return self.code == TIMED_OUT

    @property
    def leaks(self) -> list[str]:
        """Mounts, loop devices, processes and open fds that were not there before (or now gone:
        marked "gone:")."""
        before = [_comparable(line) for line in self.before]
        after = [_comparable(line) for line in self.after]
        return [line for line in after if line not in before] + [
            f"gone: {line}" for line in before if line not in after
        ]


class CaseError(AssertionError):
    """A case that did not report, or not what was expected."""


class Results(Mapping[str, Result]):
    """Results by case name. A case that did not report raises CaseError with the reason."""

    def __init__(self, console: Console, cases: Iterable[Case]) -> None:
        self.console = console
        self.cases = {case.name: case for case in cases}
        self._found, self._begun = _parse(console.results)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, name: str) -> Result:
        if name in self._found:
            return self._found[name]
        if name not in self.cases:
            raise KeyError(name)
        setup = self._found.get(_SETUP)
        if setup is not None and setup.code:
            raise CaseError(
                f"{name}: the guest's set-up failed (exit {setup.code}): {setup.stdout}"
                f"{setup.stderr}"
            )
        what = "the guest died in it" if name in self._begun else "the guest never came to it"
        if self.console.timed_out:
            what += f" (killed after {self.console.seconds:.0f} s)"
        raise CaseError(f"{name}: {what}; console:\n{self.console.tail}")

    def check(self, name: str) -> Result:
        """The result of case `name`, if it is what the case expects; else CaseError."""
        case, result = self.cases[name], self[name]
        wrong = []
        if result.code != case.code:
            wrong.append(f"exit {result.code}, expected {case.code}")
        for stream, pattern in (("stdout", case.stdout), ("stderr", case.stderr)):
            text = getattr(result, stream)
            if pattern is not None and not re.search(pattern, text, re.MULTILINE):
                wrong.append(f"{stream} has no {pattern!r}")
        if result.leaks and not case.leaks:
            wrong.append("left behind: " + "; ".join(result.leaks))
        if wrong:
            raise CaseError(
                f"{name}: {'; '.join(wrong)}\n--- stdout\n{result.stdout}\n--- stderr\n"
                f"{result.stderr}\n--- kernel\n{result.kernel}"
            )
        return result


class LazyResults:
    """Boots when the first result is asked for: what session fixtures hand out."""

    def __init__(self, run: Callable[[], Results]) -> None:
        self._run = run
        self._results: Results | None = None
        self._error: Exception | None = None

    @property
    def results(self) -> Results:
        """The results; a boot that failed is not tried again."""
        if self._error is not None:
            raise self._error
        if self._results is None:
            try:
                self._results = self._run()
            except Exception as error:
                self._error = error
                raise
        return self._results

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def check(self, name: str) -> Result:
        """See Results.check."""
        return self.results.check(name)


def run_cases(
    toolbox: Toolbox,
    kernel: Kernel,
    cases: Sequence[Case],
    *,
    setup: str = "",
    disks: Sequence[Disk] = (),
    modules: Sequence[str] = GUEST_MODULES,
    load: Sequence[str] | None = None,
    files: Mapping[str, bytes | str | Path] | None = None,
    append: str = "",
    memory: int = 512,
    cpus: int = 1,
    icount: bool = False,
    limit: float | None = None,
    log: Path | None = None,
    arguments: Sequence[str] = (),
) -> Results:
    """Boot `kernel` once and run all `cases` in order.

    `setup` is run first, in the namespace that all cases inherit (mount the disks there, to
    /disk or below /mnt). Each case gets a mount namespace of its own. `modules` are in the initrd;
    `load` of them (default: all) are loaded at boot, the others when the kernel or modprobe ask.
    `files`: name to content, executable, for instance {"usr/bin/cfs-mount": path}. `arguments`:
    more of them for QEMU.
    """
    initrd = cases_initrd(
        toolbox, kernel, cases, setup=setup, modules=modules, load=load, files=files
    )
    console = boot(
        toolbox,
        kernel=kernel.vmlinuz,
        initrd=initrd,
        disks=disks,
        append=f"loglevel=4 {append}",
        memory=memory,
        cpus=cpus,
        icount=icount,
        limit=boot_limit(cases) if limit is None else limit,
        log=log,
        begun=BEGUN,
        arguments=arguments,
    )
    return Results(console, cases)


def boot_limit(cases: Iterable[Case]) -> float:
    """Seconds for all of them."""
    return _BETWEEN_SECONDS + _SETUP_SECONDS + sum(case.limit for case in cases)


def guest_limit(case: Case, scale: float) -> int:
    """Seconds in a guest on a machine that is `scale` times as slow as an idle one."""
    return case.limit if case.code == TIMED_OUT else math.ceil(case.limit * scale * _PATIENCE)


def cases_initrd(
    toolbox: Toolbox,
    kernel: Kernel,
    cases: Sequence[Case],
    *,
    setup: str = "",
    modules: Sequence[str] = GUEST_MODULES,
    load: Sequence[str] | None = None,
    files: Mapping[str, bytes | str | Path] | None = None,
) -> bytes:
    """What `run_cases` boots, for who boots it in another way: `Results` reads the console."""
    names = [case.name for case in cases]
    if len(set(names)) != len(names) or not all(map(_NAME.fullmatch, names)) or _SETUP in names:
        raise ValueError(f"case names must be plain and unique: {names}")
    listed = [Case(_SETUP, setup, limit=_SETUP_SECONDS), *cases]
    scale = pace(toolbox).scale()
    entries = [
        Entry(
            "guest/modules",
            stat.S_IFREG | 0o644,
            "\n".join(modules if load is None else load).encode(),
        ),
        Entry("guest/runner", stat.S_IFREG | 0o755, _RUNNER.encode()),
    ]
    for number, case in enumerate(listed):
        directory = f"guest/cases/{number:04}"
        for name, text in (
            ("name", case.name + "\n"),
            ("limit", f"{guest_limit(case, scale)}\n"),
            ("script", case.script),
        ):
            entries.append(Entry(f"{directory}/{name}", stat.S_IFREG | 0o644, text.encode()))
    initrd = guest_initrd(toolbox, kernel, _INIT, modules=modules, files=files)
    return initrd + write_cpio(entries)


def _comparable(line: str) -> str:
    """A snapshot's line without the ids that differ each time something is mounted."""
    kind, _, rest = line.partition(" ")
    if kind == "mount":
        return "mount " + " ".join(rest.split(" ")[3:])
    return line


def _parse(data: bytes) -> tuple[dict[str, Result], set[str]]:
    found: dict[str, Result] = {}
    begun: set[str] = set()
    fields: dict[str, str] = {}
    position = 0
    while (end := data.find(b"\n", position)) >= 0:
        mark, name, kind, length = data[position:end].decode().split(" ")
        if mark != "@":
            raise ValueError(f"no record at byte {position} of the results")
        position = end + 1 + int(length)
        if position > len(data):
            break
        if kind == "begin":
            begun.add(name)
            fields = {}
        fields[kind] = data[end + 1 : position].decode(errors="replace")
        if kind == "end":
            code, start, stop = fields["end"].split()
            found[name] = Result(
                name,
                int(code),
                float(stop) - float(start),
                fields["stdout"],
                fields["stderr"],
                fields["kernel"],
                fields["before"].splitlines(),
                fields["after"].splitlines(),
            )
    return found, begun


# PID 1. The result port appears when the host has answered the driver: wait for it, bounded.
_INIT = """#!/usr/bin/busybox sh
export PATH=/usr/bin
/usr/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
echo /usr/bin/modprobe >/proc/sys/kernel/modprobe
for module in $(cat /guest/modules); do modprobe -q "$module"; done
tries=0
until [ -c /dev/vport0p1 ] || [ $tries = 6000 ]; do tries=$((tries + 1)); usleep 10000; done
exec 9>/dev/vport0p1 || poweroff -f
echo "guest: begun" >/dev/console
for directory in /guest/cases/*; do
    read -r name <"$directory/name"
    if [ "$name" = setup ]; then
        /guest/runner "$directory" || break
    else
        unshare -m /guest/runner "$directory"
    fi
done
exec 9>&-
sync
poweroff -f
"""

_RUNNER = """#!/usr/bin/busybox sh
directory=$1
work=/run/.case
rm -rf $work
mkdir $work
read -r name <"$directory/name"
read -r limit <"$directory/limit"
record() {
    head -c 8388608 "$2" >$work/record
    printf '@ %s %s %d\\n' "$name" "$1" "$(stat -c %s $work/record)" >&9
    cat $work/record >&9
}
: >$work/begin
record begin $work/begin
dmesg -c >/dev/null
snapshot >$work/snapshot
mv $work/snapshot $work/before
cd /
read -r start _ </proc/uptime
limit "$limit" sh "$directory/script" >$work/stdout 2>$work/stderr </dev/null 9>&-
code=$?
read -r stop _ </proc/uptime
snapshot >$work/snapshot
mv $work/snapshot $work/after
dmesg -c >$work/kernel
# What a case left running must not meet the next one.
grep '^process ' $work/after | grep -vxFf $work/before | while read -r _ pid _; do
    kill -9 "$pid"
done
for part in stdout stderr kernel before after; do record $part $work/$part; done
echo "$code $start $stop" >$work/end
record end $work/end
exit $code
"""
