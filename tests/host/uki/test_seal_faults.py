# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every system call of `cfs-uki seal` made to fail once, and the process killed at each: under the
output's name there is the file from before or the whole new one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.core import pe_builder
from tests.core.pe_builder import Section
from tests.vm.faults import sweep
from tests.vm.once import REPOSITORY

DIGEST = "d1" * 32
OLD = b"the output from before"
UKI = pe_builder.build(
    [
        Section(b".text", b"t" * 700),
        Section(b".linux", b"l" * 700),
        Section(b".initrd", b"0" * 512),
        Section(b".cmdline", b"quiet systemd.import_credentials=no"),
    ]
)
_CODE = "import sys; from pyinit.host.commands.cfs_uki import main; sys.exit(main(sys.argv[1:]))"
_SECONDS = 600


def run(directory: Path, *fault: str) -> tuple[list[sweep.Run], bytes]:
    """One run with a fault at most; what is then under the output's name."""
    source, target = directory / "marked-input.efi", directory / "out.efi"
    source.write_bytes(UKI)
    target.write_bytes(OLD)
    command = [
        sys.executable, "-B", "-S", "-c", _CODE,
        "seal", "--digest", DIGEST, str(source), "-o", str(target),
    ]  # fmt: skip
    if fault:
        command = [str(sweep.injector()), *fault, "-f", source.name, "--", *command]
    path = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": ":".join(path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sweep.parse(done.stdout), target.read_bytes()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    _, sealed = run(tmp_path_factory.mktemp("whole"))
    assert sealed not in (OLD, UKI)
    return sealed


def faulty_runs(root: Path, mode: str) -> list[tuple[sweep.Run, bytes, list[str]]]:
    """For each N: the run, the output, and what else lies beside it."""

    def one(n: int) -> tuple[sweep.Run, bytes, list[str]] | None:
        directory = root / str(n)
        directory.mkdir()
        found, output = run(directory, "-m", mode, "-n", str(n))
        names = {path.name for path in directory.iterdir()}
        beside = sorted(names - {"marked-input.efi", "out.efi"})
        return (found[0], output, beside) if found else None

    results: list[tuple[sweep.Run, bytes, list[str]]] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        while True:
            first = len(results) + 1
            some = [one for one in pool.map(one, range(first, first + 8)) if one is not None]
            results += some
            if len(some) < 8:
                return results


def test_a_failing_call_leaves_the_old_output(tmp_path: Path, sealed: bytes) -> None:
    problems = []
    found = faulty_runs(tmp_path, "error")
    renamed = next(at for at, (run, _, _) in enumerate(found) if run.call == "rename")
    for at, (run, output, beside) in enumerate(found):
        if run.call.startswith("?") or run.signal or beside:
            problems.append(f"signal or {beside} left: {run}")
        elif run.exit == 0:
            if output != sealed:
                problems.append(f"no error: {run}")
        elif output != OLD and not (at > renamed and output == sealed):
            problems.append(f"output changed: {run}")
        elif run.said.count("\n") != 1 or not run.said.startswith("cfs-uki: "):
            problems.append(f"not one line: {run}")
    assert problems == []
    seen = {run.call for run, _, _ in found}
    assert {"openat", "read", "write", "fchmod", "fsync", "rename", "close"} <= seen


def test_killed_anywhere_it_leaves_an_old_or_a_new_output(tmp_path: Path, sealed: bytes) -> None:
    found = faulty_runs(tmp_path, "kill")
    assert all(run.signal == 9 for run, _, _ in found)
    outputs = [output for _, output, _ in found]
    renamed = outputs.index(sealed)
    assert outputs == [OLD] * renamed + [sealed] * (len(outputs) - renamed)
    assert found[renamed - 1][0].call == "rename"
    # a temporary file may stay, under a name that nobody takes for the output
    for _, _, beside in found:
        assert len(beside) <= 1
        assert all(name.startswith(".out.efi.") and name.endswith(".tmp") for name in beside)
