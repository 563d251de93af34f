# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The blocks of the pages below docs/, and running those that can be run anywhere.

A comment in the line before a block of commands says what becomes of it:

    <!-- run -->                a test runs it, after those before it on the page
    <!-- not run: REASON -->    why not; tests that do the same are named

A block of `toml` is the file setup-root-conf.toml of the commands after it.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
KINDS = {"ini", "json", "sh", "text", "toml"}
_MARK = re.compile(r"<!-- (run|not run: (.+)) -->")


@dataclass(frozen=True)
class Block:
    """`run`: None where nothing says it; `reason`: why it is not run."""

    line: int
    kind: str
    text: str
    run: bool | None
    reason: str


def blocks(text: str) -> Iterator[Block]:
    """In order. ValueError: a block that does not end, or a line that Markdown takes for one."""
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        if line.startswith("```"):
            if start is None:
                start = number
            else:
                yield _block(lines, start, number)
                start = None
        elif start is None and re.match(r" {4}|\t", line) and not _goes_on(lines, number):
            raise ValueError(f"line {number + 1}: a block without a fence")
    if start is not None:
        raise ValueError(f"line {start + 1}: a block without an end")


def _goes_on(lines: list[str], number: int) -> bool:
    """Is the line the next one of a list's entry?"""
    return number > 0 and lines[number - 1].strip() != ""


def _block(lines: list[str], start: int, end: int) -> Block:
    mark = _MARK.fullmatch(lines[start - 1]) if start else None
    return Block(
        start + 1,
        lines[start].removeprefix("```"),
        "\n".join(lines[start + 1 : end]) + "\n",
        None if mark is None else mark.group(1) == "run",
        (mark.group(2) or "") if mark else "",
    )


def script(page: str) -> str:
    """What the blocks of a page that are run do, one after the other."""
    parts = []
    for block in blocks(page):
        if block.kind == "toml":
            parts.append(f"cat >setup-root-conf.toml <<'END'\n{block.text}END\n")
        elif block.run:
            parts.append(block.text)
    return "".join(parts)


def programs(directory: Path) -> None:
    """The commands of the package, from these sources."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, entry in project["scripts"].items():
        module, _, function = entry.partition(":")
        code = f"import sys; from {module} import {function} as run; sys.exit(run())"
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        program.chmod(0o755)


def run(
    text: str, directory: Path, path: Path, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Commands as a person types them, in `directory`; the first that fails ends them."""
    environment = {
        "PATH": f"{path}:/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'build/lib'}",
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        **variables,
    }
    return subprocess.run(
        ["/bin/bash", "-eu", "-o", "pipefail", "-c", text],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=600, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def named(reason: str) -> list[str]:
    """The files that a reason names."""
    return re.findall(r"\btests/[\w/.]+\.py\b", reason)
