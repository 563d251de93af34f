# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which program an argument vector names."""

import pytest

import pyinit
from pyinit.initrd import main


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
