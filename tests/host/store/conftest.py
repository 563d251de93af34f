# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A store, the kernel of played.py, tools, and what kills a program at a system call."""

import _cfs
import os
import subprocess
from pathlib import Path

import pytest

from pyinit.host.store import mounts, records
from pyinit.initrd.handover import status
from tests.host.store.played import HELLO, Kernel
from tests.vm.toolbox import Toolbox

KILLED = 99
"""The exit code of kill_at.c where the program was killed."""


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("kill") / "kill_at"
    source = Path(__file__).with_name("kill_at.c")
    flags = ("-std=gnu17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    command = ["gcc", *flags, "-o", str(program), str(source)]
    subprocess.run(command, check=True, timeout=600)
    return program


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Tools, and peers. They are made here: what is said meanwhile is no test's."""
    box = Toolbox()
    _ = box.peers
    return box


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(_cfs, "verity_enable", kernel.enable)
    monkeypatch.setattr(_cfs, "verity_measure", kernel.measure)
    return kernel


@pytest.fixture
def no_verity(kernel: Kernel) -> Kernel:
    kernel.supported = False
    return kernel


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    (path / "objects").mkdir(parents=True)
    (path / "images").mkdir()
    return path


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    path = tmp_path / "hello"
    path.write_bytes(HELLO)
    return path


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the mounts of this machine nor its records."""
    monkeypatch.setattr(mounts, "overlays", list)
    monkeypatch.setattr(status, "PATH", str(tmp_path / "root.json"))
    monkeypatch.setattr(status, "INITRD", str(tmp_path / "initrd.json"))
    monkeypatch.setattr(status, "NEXT", str(tmp_path / "nextroot.json"))
    monkeypatch.setattr(status, "APPS", str(tmp_path / "apps"))
    monkeypatch.setattr(records, "STAGED", str(tmp_path / "staged"))


@pytest.fixture
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor for which an image is wanted where nobody says it."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "x86_64")))
