# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Workers: processes in cells, each with a copy of the repository of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from tests.core import build as core_build

from .belongs import REPOSITORY
from .cell import command
from .change import Change

# What goes round has noticed; what its tests use of the processor varies little. A test that waits
# for ever has noticed too; one on a busy machine has not. At least so many seconds, and so many
# times what the tests usually take.
_CPU_AT_LEAST, _CPU_TIMES = 10.0, 4.0
_WALL_AT_LEAST, _WALL_TIMES = 60.0, 10.0
_LINKED = ("build/venv", "build/toolbox")
_COPIED = ("build/lib",)


class ToolError(Exception):
    """The tests cannot be run as they are: that says nothing of a change."""


class Worker:
    """Runs tests on changed files, one after the other."""

    def __init__(self, directory: Path, *, sanitized: bool) -> None:
        _copy(directory)
        environment = {
            **os.environ,
            "CFLAGS": "-w -O0 -g0",
            "HYPOTHESIS_STORAGE_DIRECTORY": "tmp/examples",
        }
        start: list[str] = [sys.executable, "-m", "tests.mutants.worker"]
        if sanitized:  # as tests/core starts pytest: see there
            environment |= {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
                            "UBSAN_OPTIONS": "print_stacktrace=1"}  # fmt: skip
            start = ["setarch", "-R", "env", f"LD_PRELOAD={core_build.runtime()}",
                     "PYTHONMALLOC=malloc", *start]  # fmt: skip
        self._process = subprocess.Popen(
            command(directory, *start), cwd=directory, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self, path: str, source: str | None, tests: list[str], cpu: float, wall: float
    ) -> dict[str, Any]:
        """The worker's answer: see worker.py."""
        order = {"path": path, "source": source, "tests": tests, "cpu": cpu, "wall": wall}
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ToolError(f"a worker ended, exit {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


class Crew:
    """As many workers as jobs, of each kind as they are wanted."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._own = threading.local()
        self._workers: list[Worker] = []
        self._usual: dict[tuple[str, ...], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        (REPOSITORY / "build").mkdir(exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="mutants.", dir=REPOSITORY / "build"))
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in self._workers:
            worker.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def survivors(
        self, changes: list[Change], tests: Callable[[str], list[str]], note: Callable[[str], None]
    ) -> Iterator[Change]:
        """Those that `tests` of their file do not notice."""
        with ThreadPoolExecutor(self._jobs) as pool:
            results = pool.map(lambda change: self._notices(change, tests(change.path)), changes)
            for done, (change, how) in enumerate(zip(changes, results, strict=True), 1):
                note(f"{done} of {len(changes)}: {change}: {how or 'NOT NOTICED'}")
                if not how:
                    yield change

    def _notices(self, change: Change, tests: list[str]) -> str:
        worker = self._worker(sanitized=change.path.endswith(".c"))
        cpu, wall = self._baseline(worker, change.path, tests)
        source = change.apply((REPOSITORY / change.path).read_bytes()).decode()
        answer = worker.run(
            change.path,
            source,
            tests,
            max(_CPU_AT_LEAST, _CPU_TIMES * cpu),
            max(_WALL_AT_LEAST, _WALL_TIMES * wall),
        )
        return str(answer["how"])

    def _worker(self, *, sanitized: bool) -> Worker:
        own = self._own.__dict__.setdefault("workers", {})
        if sanitized not in own:
            with self._lock:
                directory = self._directory / str(len(self._workers))
                own[sanitized] = Worker(directory, sanitized=sanitized)
                self._workers.append(own[sanitized])
        found: Worker = own[sanitized]
        return found

    def _baseline(self, worker: Worker, path: str, tests: list[str]) -> tuple[float, float]:
        """What the tests take where nothing is changed: seconds of the processor, and in all.

        ToolError: they fail.
        """
        key = tuple(tests)
        if key not in self._usual:
            answer = worker.run(path, None, tests, 1200, 4800)
            if answer["noticed"]:
                raise ToolError(
                    f"{' '.join(tests)} fail without a change: {answer['how']}: {answer['log']}"
                )
            self._usual[key] = answer["cpu"], answer["wall"]
        return self._usual[key]


def _copy(directory: Path) -> None:
    """What git knows and what is not yet committed, and what the build made."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, directory / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for name in _COPIED:
        shutil.copytree(REPOSITORY / name, directory / name)
    for name in _LINKED:
        (directory / name).symlink_to(REPOSITORY / name)
    (directory / "tmp").mkdir()
