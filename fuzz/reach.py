# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How much of a parser its corpus reaches."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import build
from .parsers import BUILD, ROOT, Parser

LINES = 95.0
BRANCHES = 90.0
"""Percent of each file that its corpus has to reach."""


@dataclass(frozen=True)
class Reached:
    """Of one source file, in percent."""

    source: str
    lines: float
    branches: float

    @property
    def enough(self) -> bool:
        return self.lines >= LINES and self.branches >= BRANCHES

    def __str__(self) -> str:
        name = Path(self.source).name
        return f"{name} {self.lines:.1f} % of lines, {self.branches:.1f} % of branches"


def reached(parser: Parser, corpus: list[Path]) -> list[Reached]:
    """By what lies in these directories."""
    return _of_c(parser, corpus) if parser.is_c else _of_python(parser, corpus)


def _of_c(parser: Parser, corpus: list[Path]) -> list[Reached]:
    program = build.counter(parser)
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        raw, profile = f"{directory}/raw", f"{directory}/profile"
        build.run(str(program), *map(str, corpus), LLVM_PROFILE_FILE=raw)
        build.run("llvm-profdata", "merge", "-sparse", raw, "-o", profile)
        sources = [str(ROOT / source) for source in parser.sources]
        exported = build.run(
            "llvm-cov", "export", "-summary-only", f"-instr-profile={profile}", str(program),
            *sources,
        )  # fmt: skip
    [data] = json.loads(exported)["data"]
    return [
        Reached(
            str(Path(file["filename"]).relative_to(ROOT)),
            file["summary"]["lines"]["percent"],
            file["summary"]["branches"]["percent"],
        )
        for file in data["files"]
    ]


def _of_python(parser: Parser, corpus: list[Path]) -> list[Reached]:
    import sys

    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        report = f"{directory}/report"
        build.run(
            sys.executable, "-m", "fuzz.measure", parser.name, report, *map(str, corpus),
            PYTHONPATH=build.PYTHON_PATH,
        )  # fmt: skip
        files = json.loads(Path(report).read_text())["files"]
    return [
        Reached(
            source,
            _percent(files[source]["summary"], "covered_lines", "num_statements"),
            _percent(files[source]["summary"], "covered_branches", "num_branches"),
        )
        for source in parser.sources
    ]


def _percent(summary: dict[str, int], part: str, whole: str) -> float:
    return 100 * summary[part] / summary[whole] if summary[whole] else 100.0
