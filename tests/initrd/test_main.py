# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which program an argument vector names."""

import os
import subprocess
import sys

import pytest

import pyinit
from pyinit.initrd import main
from pyinit.initrd.programs import init


@pytest.mark.parametrize(
    ("argv", "name", "args"),
    [
        (["/usr/bin/cfs-mount", "-v"], "cfs-mount", ["-v"]),
        (["mount.cfs"], "mount.cfs", []),
        (["cfs-init", "cfs-mount", "x"], "cfs-mount", ["x"]),
        (["/build/cfs-init", "init"], "init", []),
        # The name by which it was called goes before the first argument.
        (["/init", "cfs-mount"], "init", ["cfs-mount"]),
        (["cfs-init", "ls", "cfs-mount"], "cfs-init", ["ls", "cfs-mount"]),
        (["cfs-mount/"], "", []),
        ([], "", []),
    ],
)
def test_the_name_is_argv_0_or_the_first_argument(
    argv: list[str], name: str, args: list[str]
) -> None:
    assert main.split(argv) == (name, args)


def test_pid_1_is_init_whatever_its_file_is_called(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("posix.getpid", lambda: 1)
    assert main.main(["/cfs-init", "--version"]) == 0
    assert main.main(["/cfs-init", "mount.cfs", "--version"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        f"init {pyinit.VERSION}",
        f"mount.cfs {pyinit.VERSION}",
    ]


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
@pytest.mark.parametrize("name", ["cfs-init", "cfs-mount", "mount.cfs", "cfs-setup-root"])
def test_help(name: str, word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main([f"/usr/bin/{name}", word]) == 0
    said = capfd.readouterr()
    assert said.out.startswith(f"usage: {name} ")
    assert not said.err


def test_help_is_no_word_for_pid_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the words of the kernel's command line, and boots whatever they are."""
    given: list[list[str]] = []
    monkeypatch.setattr("posix.getpid", lambda: 1)
    monkeypatch.setattr(init, "main", given.append)
    main.main(["/init", "help"])
    assert given == [["help"]]


def test_an_unknown_name_is_wrong_use(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["cfs-init", "ls"]) == 1
    assert "usage: cfs-init" in capfd.readouterr().err


def test_an_error_inside_an_installed_command_is_no_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> int:
        raise RuntimeError("inside")

    monkeypatch.setattr(main, "main", fail)
    assert main.console_script() == 4
    assert "RuntimeError: inside" in capfd.readouterr().err


@pytest.mark.parametrize("argument", ["-h", "--help", "help", "--version"])
@pytest.mark.parametrize("name", ["cfs-mount", "mount.cfs", "cfs-setup-root"])
def test_an_answer_that_nobody_gets_is_no_success(name: str, argument: str) -> None:
    program = (
        "import sys; from pyinit.initrd import main;"
        "sys.argv = sys.argv[1:]; raise SystemExit(main.console_script())"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, name, argument],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=600, check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    said = f"{name}: error: standard output: No space left on device (ENOSPC)\n"
    assert (done.returncode, done.stderr) == (2, said)
