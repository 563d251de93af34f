# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Running rows: one boot for a kernel and a file system, all rows of all mounters in it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.bundle import bundle
from tests.vm.cases import TIMED_OUT, Case, CaseError, Result, Results, run_cases
from tests.vm.guest import Disk
from tests.vm.initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from tests.vm.kernels import REFUSES
from tests.vm.product import cfs_init, refusal
from tests.vm.toolbox import Kernel, Toolbox

from . import rows_boot, rows_image, rows_object
from .mounters import CFS_MOUNT, Mounter
from .rows import Errors, Mounts, Refused, Row
from .stores import MatrixDisks

ROWS: tuple[Row, ...] = (*rows_image.ROWS, *rows_object.ROWS, *rows_boot.ROWS)

# Some hang, in more rows than one has patience for. A guest gives them more (cases.py).
_PEER_SECONDS = 3
_LIBRARY = Path(__file__).with_name("guest.sh")


@dataclass(frozen=True)
class Answer:
    """What a mounter did in a row."""

    code: int
    mounted: bool
    files: dict[str, str]
    """Expected file to "right", "WRONG" or the errno of reading it."""
    left: list[str]
    """Mounts and loop devices that were not there before, or are no more."""
    stderr: str

    @property
    def short(self) -> str:
        """For the table."""
        if self.code == TIMED_OUT:
            return "hangs (killed)"
        first = self.stderr.strip().splitlines()
        if self.code:
            return f"refused ({self.code})" + (f": {first[-1]}" if first else "")
        if not self.mounted:
            return "exit 0, nothing mounted"
        bad = {name: what for name, what in self.files.items() if what != "right"}
        if not bad:
            return "mounted, all files right"
        return "mounted; " + ", ".join(f"{name}: {what}" for name, what in bad.items())


def answer(result: Result) -> Answer:
    """From a row's report. CaseError: it did not come to its end."""
    if result.timed_out:
        return Answer(TIMED_OUT, False, {}, result.leaks, result.stderr)
    head, mark, stderr = result.stdout.partition("\nstderr\n")
    lines = [line.partition(" ") for line in head.splitlines()]
    codes = [int(rest) for word, _, rest in lines if word == "code"]
    if not mark or len(codes) != 1:
        raise CaseError(
            f"{result.name}: exit {result.code}: {result.stdout}{result.stderr}{result.kernel}"
        )
    files = dict(rest.rsplit(" ", 1) for word, _, rest in lines if word == "file")
    left = [rest for word, _, rest in lines if word == "left"]
    return Answer(codes[0], ("mounted", "", "") in lines, files, left + result.leaks, stderr)


class Matrix:
    """The answers of one boot."""

    def __init__(self, kernel: Kernel, results: Results, names: Mapping[str, str]) -> None:
        self.kernel = kernel
        self._results = results
        self._names = names

    def answer(self, row: Row, mounter: Mounter = CFS_MOUNT) -> Answer:
        """What the mounter did. CaseError: the row did not report."""
        return answer(self._results[_case_name(row, mounter)])

    def check(self, row: Row) -> Answer:
        """cfs-mount's answer, if it is the row's outcome; else CaseError."""
        found = self.answer(row)
        wrong = list(_differences(row, found, self._names))
        if wrong:
            kernel = self._results[_case_name(row, CFS_MOUNT)].kernel
            raise CaseError(f"{row.name}: {'; '.join(wrong)}\n{found}\n{kernel}")
        return found


def _differences(row: Row, found: Answer, names: Mapping[str, str]) -> Iterable[str]:
    if found.left:
        yield f"left behind: {found.left}"
    if "WRONG" in found.files.values():
        yield "wrong content was served"
    outcome = row.outcome
    if isinstance(outcome, Refused):
        wrong = list(_no_such_refusal(outcome, row.program, found, names))
        other = outcome.or_else
        if wrong and (not other or list(_no_such_refusal(other, row.program, found, names))):
            yield from wrong
        return
    if found.code:
        yield f"exit {found.code}, expected 0"
    if isinstance(outcome, Mounts | Errors):
        if not found.mounted:
            yield "not mounted"
        expected = outcome.files if isinstance(outcome, Errors) else {}
        for name, what in found.files.items():
            if not re.fullmatch(expected.get(name, "right"), what):
                yield f"{name} is {what}, expected {expected.get(name, 'right')}"


def _no_such_refusal(
    outcome: Refused, program: str, found: Answer, names: Mapping[str, str]
) -> Iterable[str]:
    texts = (outcome.path, outcome.found, outcome.expected)
    pattern = refusal(
        outcome.step,
        *(_expand(text, names) for text in texts),
        program=program,
        verdict="error" if outcome.code == 1 else "refused",
    )
    if found.code != outcome.code or found.mounted:
        yield f"exit {found.code}, expected {outcome.code}"
    if not re.search(pattern, found.stderr):
        yield f"stderr is not {pattern!r}"


def _expand(pattern: str, names: Mapping[str, str]) -> str:
    for name, digest in names.items():
        pattern = pattern.replace(f"{{{name}}}", digest)
        pattern = pattern.replace(f"{{{name}/}}", f"{digest[:2]}/{digest[2:]}")
    return pattern.replace("{S}", "/(?:disk/rows/[^/]*|tampered/[^/]*/repo)")


def _case_name(row: Row, mounter: Mounter) -> str:
    return f"{row.name}.{mounter.name}"


def _script(row: Row, mounter: Mounter) -> str:
    functions = {
        "prepare": row.prepare,
        "attempt": row.command or mounter.command,
        "after": row.after,
        "clean": row.clean,
    }
    return (
        f"ROW={_case_name(row, mounter)}\n. /guest/names\n. /guest/matrix.sh\n"
        + "".join(f"{name}() {{\n{code or ':'}\n}}\n" for name, code in functions.items())
        + "run\n"
    )


def run_matrix(
    disks: MatrixDisks,
    role: str,
    file_system: str,
    directory: Path,
    mounters: Sequence[Mounter] = (CFS_MOUNT,),
    rows: Sequence[Row] = ROWS,
) -> Matrix:
    """Boot once; `directory` is for copies of the disk. Rows about cfs-init alone are not put to
    other mounters."""
    toolbox: Toolbox = disks.toolbox
    cases = [
        Case(
            _case_name(row, mounter),
            _script(row, mounter),
            limit=row.limit if mounter is CFS_MOUNT else _PEER_SECONDS,
        )
        for row in rows
        if row.runs_on(role)
        for mounter in mounters
        if mounter is CFS_MOUNT or not row.command
    ]
    setup = (
        f"mount -t {file_system} /dev/vda /disk || exit\nln -s cfs-mount /usr/bin/cfs-setup-root\n"
    )
    # btrfs mounts two file systems with one UUID from Linux 6.7 on.
    tampered = disks.tampered(file_system, directory) if role != REFUSES else {}
    for device, variant in zip("bcdefgh", tampered, strict=False):
        setup += (
            f"mkdir -p /tampered/{variant}\n"
            f"mount -t {file_system} /dev/vd{device} /tampered/{variant} || exit\n"
        )
    names = "".join(f"{name}={digest}\n" for name, digest in disks.names.items())
    files: dict[str, Path | str | bytes] = {
        "usr/bin/cfs-mount": cfs_init(),
        "guest/matrix.sh": _LIBRARY,
        "guest/names": names,
        **bundle("strace", "usr/bin/strace"),
    }
    for mounter in mounters:
        files.update(mounter.files(toolbox))
    kernel = toolbox.kernel(role)
    results = run_cases(
        toolbox,
        kernel,
        cases,
        setup=setup,
        files=files,
        modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES[file_system], *HASH_MODULES),
        disks=[
            Disk(disks.disk(file_system), discard_writes=True),
            *(Disk(path, discard_writes=True) for path in tampered.values()),
        ],
        limit=560.0 * len(mounters),
    )
    return Matrix(kernel, results, disks.names)
