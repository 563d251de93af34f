# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m fuzz [--time SECONDS] [PARSER…]`: every fuzzer that long, two at a time; what it did.

What it finds that is new goes to build/fuzz/corpus/, crashes to build/fuzz/crashes/: those belong,
with a name and a fix, into fuzz/crashes/. Exit 1: a crash, or less covered than there should be.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import build, reach, real
from .parsers import BUILD, PARSERS, ROOT, Parser

# By the clock on the wall, on machines that do other things too; see harness.SECONDS.
SLOW_SECONDS = 25
MEMORY_MIB = 1024


@dataclass(frozen=True)
class Outcome:
    """Of one fuzzer."""

    parser: Parser
    executions: int
    corpus: int
    failed: bool
    log: str
    reached: list[reach.Reached]

    @property
    def ok(self) -> bool:
        return not self.failed and all(file.enough for file in self.reached)


def fuzz(parser: Parser, seconds: int) -> Outcome:
    """That long, from the seeds, the real files and what earlier runs found."""
    corpus, crashes = BUILD / "corpus" / parser.name, BUILD / "crashes"
    for directory in (corpus, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    if parser.is_c:
        command = [str(build.fuzzer(parser))]
    else:
        command = [sys.executable, "-m", "fuzz.harness", parser.name]
    command += [
        f"-max_total_time={seconds}",
        f"-max_len={parser.max_length}",
        f"-timeout={SLOW_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-dict={parser.dictionary}",
        f"-artifact_prefix={crashes}/{parser.name}-",
        "-print_final_stats=1",
        *map(str, (corpus, *parser.corpus, *real.files(parser))),
    ]
    done = subprocess.run(
        command, capture_output=True, timeout=seconds + 300, check=False, cwd=ROOT,
        stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": build.PYTHON_PATH},
    )  # fmt: skip
    log = (done.stdout + done.stderr).decode(errors="replace")
    found = re.search(r"stat::number_of_executed_units: *(\d+)", log)
    everything = [corpus, *parser.corpus, *real.files(parser)]
    return Outcome(
        parser,
        int(found.group(1)) if found else 0,
        sum(1 for directory in everything for _ in directory.iterdir()),
        done.returncode != 0,
        log,
        # Not measured where a file of it crashes.
        [] if done.returncode else reach.reached(parser, everything),
    )


def show(outcome: Outcome) -> None:
    verdict = "ok" if outcome.ok else "CRASH" if outcome.failed else "TOO LITTLE COVERED"
    print(
        f"{outcome.parser.name:10} {outcome.executions:>10} executions {outcome.corpus:>6} files  "
        f"{verdict}",
        flush=True,
    )
    for file in outcome.reached:
        print(f"{'':10} {file}", flush=True)
    if outcome.failed:
        print(outcome.log[-6000:], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS")
    parser.add_argument("names", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    given = parser.parse_args()
    started = time.monotonic()
    chosen = [PARSERS[name] for name in given.names or PARSERS]
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = []
        for outcome in pool.map(lambda one: fuzz(one, given.time), chosen):
            show(outcome)
            outcomes.append(outcome)
    bad = [outcome.parser.name for outcome in outcomes if not outcome.ok]
    total = sum(outcome.executions for outcome in outcomes)
    print(f"{total} executions in {time.monotonic() - started:.0f} s; bad: {bad or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
