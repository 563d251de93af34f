# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The table: as text, Markdown and JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .elsewhere import ELSEWHERE
from .rows import Elsewhere


@dataclass(frozen=True)
class Line:
    """One row on one kernel and file system."""

    number: int
    variant: str
    title: str
    kernel: str
    """The role, and the series that played it: "newest (7.3)", on another machine "… arm64"."""
    file_system: str
    expected: str
    passed: bool
    answers: dict[str, str]
    """By mounter: what it did."""

    @property
    def text(self) -> str:
        """For the terminal."""
        name = f"{self.number}-{self.variant}"
        verdict = "ok  " if self.passed else "FAIL"
        return f"{verdict} {name:28} {self.kernel:19} {self.file_system:5} {self.expected}"


def write(lines: list[Line], directory: Path) -> None:
    """matrix.json and matrix.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "matrix.json").write_text(
        json.dumps(
            {
                "rows": [asdict(line) for line in lines],
                "elsewhere": [asdict(entry) for entry in ELSEWHERE],
            },
            indent=1,
        )
        + "\n"
    )
    (directory / "matrix.md").write_text("".join(markdown(lines)))


def markdown(lines: list[Line]) -> Iterable[str]:
    """As Markdown."""
    mounters = sorted({name for line in lines for name in line.answers})
    heads = ["#", "Case", "Kernel", "File system", "Passed", *mounters]
    yield _row(heads)
    yield _row(["---"] * len(heads))
    for line in sorted(lines, key=lambda line: line.number):
        yield _row(
            [
                str(line.number),
                line.title,
                line.kernel,
                line.file_system,
                "yes" if line.passed else "**no**",
                *(line.answers.get(name, "") for name in mounters),
            ]
        )
    yield "\nProved by other tests, or not yet:\n\n"
    yield _row(["#", "Case", "Where"])
    yield _row(["---"] * 3)
    for entry in ELSEWHERE:
        yield _row([str(entry.number), entry.title, where(entry)])


def where(entry: Elsewhere) -> str:
    """The tests, and why there."""
    if not entry.tests:
        return f"not yet: {entry.why}"
    return ", ".join(entry.tests) + (f" ({entry.why})" if entry.why else "")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
