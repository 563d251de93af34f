# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is said of the disk before it is used; and what make is asked to leave out."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FREE = 5000  # MiB


def space(directory: Path, needed: int) -> tuple[int, str]:
    """The script where build/ has 2 MiB and the disk has FREE; exit code and what it says."""
    (directory / "build").mkdir()
    (directory / "build/file").write_bytes(bytes(1 << 20) * 2)
    programs = directory / "bin"
    programs.mkdir()
    (programs / "df").write_text(f"#!/bin/sh\nprintf ' Avail\\n{FREE}M\\n'\n")
    (programs / "df").chmod(0o755)
    done = subprocess.run(
        [ROOT / "tests/space.sh", str(needed)],
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(("needed", "code"), [(FREE, 0), (FREE + 50, 1)])
def test_what_is_needed_is_said_and_must_be_there(tmp_path: Path, needed: int, code: int) -> None:
    found, said = space(tmp_path, needed)
    assert found == code
    assert re.match(
        rf"space: {needed} MiB are needed in build/, [23] are used there, {FREE} are free\n", said
    )
    assert ("make room" in said) == bool(code)


def test_what_is_there_already_is_not_needed_again(tmp_path: Path) -> None:
    assert space(tmp_path, FREE + 2)[0] == 0


def made(*arguments: str) -> str:
    """The commands that make would run."""
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    environment.pop("GUESTS", None)
    return subprocess.run(
        ["make", "-n", *arguments], env=environment, cwd=ROOT,
        capture_output=True, text=True, timeout=600, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("target", ["check", "demo"])
def test_it_is_said_first(target: str) -> None:
    first = made(target).splitlines()[0]
    assert re.fullmatch(r"tests/space\.sh \d{4,5}", first)


def test_guests_can_be_left_out() -> None:
    assert re.search(r"pytest .*tests/vm$", made("check"), re.MULTILINE)
    without = made("check", "GUESTS=no")
    assert re.search(r"pytest --ignore=tests/vm$", without, re.MULTILINE)
    assert re.search(r"pytest tests/vm/test_apt.py .*test_watch.py$", without, re.MULTILINE)
    assert not re.search(r" tests/vm$", without, re.MULTILINE)
