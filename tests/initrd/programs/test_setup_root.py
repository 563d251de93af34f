# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root`: its options, and what it refuses before it looks at a disk."""

from pathlib import Path

import pytest

from pyinit.initrd.handover import status
from pyinit.initrd.machine import rootdisk
from pyinit.initrd.programs import setup_root
from pyinit.initrd.report.errors import EXIT_OK, EXIT_REFUSED, EXIT_SYSTEM, EXIT_USAGE
from pyinit.initrd.source import config

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--soft-reboot="], "usage: --soft-reboot: its value is empty, expected a digest"),
        (["--soft-reboot"], "usage: --soft-reboot: its value is missing"),
        (["--soft-reboot", "ab"], "a digest of the wrong length"),
        (["--sysroot", "sysroot"], "usage: --sysroot: 'sysroot', expected an absolute path"),
        (["--soft"], "usage: --soft: unknown option"),
        (["--give-up="], "usage: --give-up: unknown option"),
        (["--root"], "usage: --root: its value is missing"),
        (["--root=a", "--soft-reboot", DIGEST], "usage: --root: not together with --soft-reboot"),
    ],
)
def test_wrong_use(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert setup_root.main(arguments) == EXIT_USAGE
    assert said in capfd.readouterr().err


def test_a_soft_reboot_needs_the_configuration_that_the_initrd_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The defaults would be another configuration than that of the boot."""
    initrd = tmp_path / "initrd.conf"
    initrd.write_bytes(config.format(config.Config()))
    monkeypatch.setattr(config, "PATH", str(initrd))
    monkeypatch.setattr(status, "CONFIG", str(tmp_path / "missing"))
    assert setup_root.main(["--soft-reboot", DIGEST]) == EXIT_USAGE
    assert f"config: {tmp_path}/missing: No such file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"cfsconf1\nfailure=reboot\nfailure-delay=0\n", EXIT_SYSTEM, "reboot in 0 s"),
        (b"cfsconf1\nfailure=poweroff\nfailure-delay=0\n", EXIT_SYSTEM, "poweroff in 0 s"),
        (b"cfsconf1\nfailure=shell\n", EXIT_OK, "a shell, since the configuration says so"),
        (b"nonsense", EXIT_SYSTEM, "reboot in 10 s"),
        (None, EXIT_SYSTEM, "reboot in 10 s"),
    ],
)
def test_giving_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    data: bytes | None, code: int, said: str,
) -> None:  # fmt: skip
    """A shell is the caller's matter; without a configuration that can be read there is none."""
    asked: list[int] = []
    monkeypatch.setattr("_cfs.reboot", asked.append)
    monkeypatch.setattr("time.sleep", lambda _: None)
    path = tmp_path / "conf"
    if data is not None:
        path.write_bytes(data)
    assert setup_root.main(["--give-up", "--config", str(path)]) == code
    assert capfd.readouterr().err.splitlines()[-1] == f"cfs-setup-root: {said}"
    assert len(asked) == (code != EXIT_OK)


def test_a_disk_of_ours_is_mounted_where_nothing_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is there, somebody else has mounted and may have read. No disk is looked for."""
    monkeypatch.setattr(rootdisk, "find", None)
    assert setup_root.main(["--root", "/dev/vda", "--sysroot", "/proc"]) == EXIT_REFUSED
    assert "refused: attach: /proc: something is mounted there already" in capfd.readouterr().err
