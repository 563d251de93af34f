# SPDX-License-Identifier: Apache-2.0 OR MIT
"""./run: make, which it installs where it is missing; and what CI calls."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What the scripts call, as programs that only say how they were called.
_SAYS = '#!/bin/sh\necho "{name} $*"\n'
_APT = (
    _SAYS
    + '[ "$3" != install ] && exit\nprintf \'%s\' "$MAKE" >"$BIN/make"\nchmod +x "$BIN/make"\n'
)


def run(directory: Path, script: str, *arguments: str, user: int = 0, make: bool) -> str:
    """What `script` says on a machine with nothing but these programs; with its exit code."""
    programs = directory / "bin"
    programs.mkdir()
    made = _SAYS.format(name="make") + "pwd\n"
    for name in ("dirname", "chmod", "sh", "timeout"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    texts = {"id": f"#!/bin/sh\necho {user}\n", "apt-get": _APT.format(name="apt-get")}
    texts |= {"make": made} if make else {}
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / script, *arguments],
        env={"PATH": str(programs), "BIN": str(programs), "MAKE": made},
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return f"{done.stdout}{done.returncode}"


def test_it_is_make_in_the_root_of_the_sources(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "check", "A=b c", make=True) == f"make check A=b c\n{ROOT}\n0"


def test_make_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "demo", make=False) == (
        "apt-get -q update\n"
        "apt-get -q -y install --no-install-recommends make\n"
        f"make demo\n{ROOT}\n0"
    )


def test_who_may_not_install_is_told_what(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "demo", user=1000, make=False) == (
        "make is missing, to be installed by root: apt-get install make\n1"
    )


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_it_can_be_called(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


def test_ci_checks(tmp_path: Path) -> None:
    assert run(tmp_path, ".ci/run", make=True) == f"make check\n{ROOT}\n0"
