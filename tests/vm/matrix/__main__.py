# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m tests.vm.matrix [[TARGET/]ROLE/FILE-SYSTEM...]`: all rows on the kernels of all roles
and on all file systems, mount.composefs beside cfs-mount, and on arm64 (elsewhere.MACHINES). Exits
with 1 if a row of cfs-mount is not as it must be, on a series of the kernel that was never seen
before too."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.vm.apt import PackageError
from tests.vm.cases import CaseError
from tests.vm.guest import GuestError
from tests.vm.kernels import MOUNTS, ROLES
from tests.vm.ledger import LEDGER
from tests.vm.once import BUILD, REPOSITORY
from tests.vm.target import TARGET, chosen
from tests.vm.toolbox import Toolbox

from .elsewhere import ELSEWHERE, MACHINES
from .mounters import MOUNTERS
from .rows import FILE_SYSTEMS, Row
from .run import ROWS, Matrix, run_matrix
from .stores import MatrixDisks, make_disks
from .table import Line, where, write


def main(arguments: list[str]) -> int:
    """The exit code."""
    wanted = arguments or [
        *(f"{role}/{name}" for role in ROLES for name in FILE_SYSTEMS),
        *(MACHINES if TARGET.native else ()),
    ]
    disks = make_disks(Toolbox())
    lines: list[Line] = []
    missing: list[str] = []
    dead = 0
    for name in wanted:
        *target, role, file_system = name.split("/")
        try:
            if target:
                lines += _run_on(target[0], f"{role}/{file_system}")
            else:
                lines += _run(disks, role, file_system)
        except PackageError as error:
            missing.append(f"{name}: not run: {error}")
        except GuestError as error:
            print(f"FAIL {name}: {error}", file=sys.stderr)
            dead += 1
        write(lines, BUILD)
    for entry in ELSEWHERE if TARGET.native else ():
        print(f"see  {entry.number}: {entry.title}: {where(entry)}")
    for line in missing:
        print(line)
    failed = [line for line in lines if not line.passed]
    place = (BUILD / "matrix.md").relative_to(REPOSITORY)
    print(f"matrix: {len(lines)} rows run, {len(failed)} not as they must be; {place}")
    print("\n".join(LEDGER.lines()))
    return 1 if failed or missing or dead or LEDGER.too_many else 0


def _run_on(target: str, name: str) -> list[Line]:
    """By a process of its own, since a process has one target (target.py)."""
    table = REPOSITORY / "build" / chosen(target).gnu / "matrix.json"
    table.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.vm.matrix", name],
        cwd=REPOSITORY,
        env={**os.environ, "CFS_TARGET": target},
        check=False,
    )
    rows = json.loads(table.read_text())["rows"] if table.exists() else []
    lines = [Line(**row) for row in rows]
    if not lines or (done.returncode and all(line.passed for line in lines)):
        raise GuestError(f"the process for {target} ended with {done.returncode}, see above")
    return lines


def _run(disks: MatrixDisks, role: str, file_system: str) -> list[Line]:
    # The old kernel refuses whatever is right: no peer is compared there.
    mounters = MOUNTERS if role in MOUNTS and TARGET.native else MOUNTERS[:1]
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        matrix = run_matrix(disks, role, file_system, Path(directory), mounters)
    lines = []
    for row in ROWS:
        if row.runs_on(role):
            lines.append(_line(matrix, row, role, file_system, len(mounters) > 1))
            print(lines[-1].text, flush=True)
    return lines


def _line(matrix: Matrix, row: Row, role: str, file_system: str, peers: bool) -> Line:
    answers = {}
    passed, problem = True, ""
    try:
        answers[MOUNTERS[0].name] = matrix.check(row).short
    except CaseError as error:
        passed, problem = False, str(error)
        answers[MOUNTERS[0].name] = problem.splitlines()[0]
        print(problem, file=sys.stderr)
    for mounter in MOUNTERS[1:] if peers and not row.command else ():
        try:
            found = matrix.answer(row, mounter)
            answers[mounter.name] = found.short + (f"; left: {found.left}" if found.left else "")
        except CaseError as error:
            answers[mounter.name] = f"did not report: {str(error).splitlines()[0]}"
    outcome = type(row.outcome).__name__.lower()
    return Line(
        row.number,
        row.variant,
        row.title,
        f"{role} ({matrix.kernel.series})" + ("" if TARGET.native else f" {TARGET.debian}"),
        file_system,
        f"{outcome}: {row.title}",
        passed,
        answers,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
