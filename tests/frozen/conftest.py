# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Builds: the executable as it is delivered, and one whose main module is programs/stand_in.py."""

import subprocess
from pathlib import Path

import pytest

from pyinit.host.frozen import build, interpreter

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("programs") / "stand_in.py"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture(scope="session", params=interpreter.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What is linked: the interpreter from source with musl, the distribution's with glibc."""
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def executable(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(ROOT, tmp_path_factory.mktemp("frozen"), kind=kind)


@pytest.fixture(scope="session")
def stand_in(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stand-in")
    return build.build(ROOT, out, replace={"pyinit.initrd.main": STAND_IN}, kind=kind)


def run(*command: str | bytes | Path) -> subprocess.CompletedProcess[str]:
    """The command with little more environment than PID 1 has, and a time limit."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT
    )
