# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root`: its options, and what it refuses before it looks at a disk."""

from pathlib import Path

import pytest

from pyinit.initrd import boot
from pyinit.initrd.handover import announce, status
from pyinit.initrd.machine import rootdisk
from pyinit.initrd.programs import setup_root, soft_reboot
from pyinit.initrd.report.errors import EXIT_OK, EXIT_REFUSED, EXIT_SYSTEM, EXIT_USAGE
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import cmdline, config, decide, handed_over
from pyinit.initrd.source.payload import Payload

DIGEST = "ab" * 32
OTHER = "cd" * 32


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_an_answer(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert setup_root.main([option]) == EXIT_OK
    assert capfd.readouterr() == (setup_root.USAGE, "")


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


class Boot:
    """The boot flow, which does nothing: what it is asked for, in order."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self.asked: list[object] = []
        self.carried: Payload | None = None
        self.line = b""
        path.write_bytes(config.format(config.Config()))
        patch.setattr(config, "PATH", str(path))
        patch.setattr(status, "CONFIG", str(path))
        patch.setattr(compose, "mounted_at", lambda _: None)
        patch.setattr(decide, "carried", lambda: self.carried)
        patch.setattr(cmdline, "load", lambda: cmdline.parse(self.line))
        self.settings = config.Config()
        patch.setattr(boot, "setup", self._setup)
        patch.setattr(soft_reboot, "prepare", self._prepare)
        patch.setattr(announce, "announce", lambda *_: self.asked.append("announce"))

    def _setup(
        self, settings: config.Config, _line: object, sysroot: str, moved: object,
        *, root: str | None,
    ) -> object:  # fmt: skip
        self.settings = settings
        self.asked.append((sysroot, moved, root))
        return {}

    def _prepare(self, _name: str, _settings: object, digest: Digest, sysroot: str) -> int:
        self.asked.append((digest.hex, sysroot))
        return EXIT_OK


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Boot:
    return Boot(monkeypatch, tmp_path / "conf")


ALL = ("dev", "proc", "run", "sys")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], [("/sysroot", (), None), "announce"]),
        (["--sysroot", "/mnt//"], [("/mnt", (), None), "announce"]),
        (["--root", "/dev/vda"], [("/sysroot", ALL, "/dev/vda"), "announce"]),
        (["--root=", "--sysroot=/"], [("/", ALL, ""), "announce"]),
        (["--soft-reboot", DIGEST], [(DIGEST, "/sysroot")]),
    ],
)
def test_what_is_asked_of_the_boot(flow: Boot, arguments: list[str], asked: list[object]) -> None:
    """Where it mounts the disk itself, the image needs the directories that mounts are moved to."""
    assert setup_root.main(arguments) == EXIT_OK
    assert flow.asked == asked


@pytest.mark.parametrize(
    ("line", "conf", "var"),
    [
        (b"systemd.volatile=state", b"profile=bootc\nvar=bind\n", "transient"),
        (b"a systemd.volatile=no systemd.volatile=overlay", b"profile=bootc\nvar=bind\n",
         "transient"),
        (b"systemd.volatile=state", b"profile=bootc\nvar=none\n", "none"),
        (b"systemd.volatile=state", b"var=bind\n", "bind"),
        (b"systemd.volatile=yes systemd.volatile", b"profile=bootc\nvar=bind\n", "bind"),
        (b"systemd.volatile_=state", b"profile=bootc\nvar=bind\n", "bind"),
    ],
)  # fmt: skip
def test_a_var_that_the_command_line_lets_go(
    flow: Boot, tmp_path: Path, line: bytes, conf: bytes, var: str
) -> None:
    """As bootc does it, on its disks alone; the configuration that is left says so too."""
    (tmp_path / "conf").write_bytes(b"cfsconf1\n" + conf)
    flow.line = line
    assert setup_root.main([]) == EXIT_OK
    assert flow.settings.var == var


@pytest.mark.parametrize(
    ("carried", "line", "code", "said"),
    [
        ([OTHER, DIGEST], b"", EXIT_OK, "is mounted on /sysroot already"),
        (None, b"composefs=" + DIGEST.encode(), EXIT_OK, "is mounted on /sysroot already"),
        ([OTHER, OTHER], b"composefs=" + DIGEST.encode(), EXIT_REFUSED,
         f"is mounted there already, expected sha256:{OTHER} sha256:{OTHER}"),
        (None, b"", EXIT_REFUSED,
         "is mounted there already, expected a root that somebody names"),
    ],
)  # fmt: skip
def test_a_second_run_does_nothing_where_that_root_is_there(
    flow: Boot,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    carried: list[str] | None,
    line: bytes,
    code: int,
    said: str,
) -> None:
    """What the initrd carries goes before the command line, as in the first run."""
    if carried is not None:
        flow.carried = Payload([Digest.parse(digest, "") for digest in carried])
    flow.line = line
    monkeypatch.setattr(compose, "mounted_at", lambda _: Digest.parse(DIGEST, ""))
    record = tmp_path / "root.json"
    monkeypatch.setattr(status, "PATH", str(record))
    record.write_text(f'{{"digest": "sha256:{DIGEST}"}}\n')
    assert setup_root.main([]) == code
    assert capfd.readouterr().err.endswith(f"sha256:{DIGEST} {said}\n")
    assert flow.asked == []
    # Without a record of this boot it is a mount that looks like one: no file of it was measured.
    for text in ("{}\n", None):
        record.unlink()
        if text:
            record.write_text(text)
        assert setup_root.main([]) == EXIT_REFUSED
    if code == EXIT_OK:
        assert "does not say that it was checked, expected nothing" in capfd.readouterr().err


@pytest.mark.parametrize(("named", "code"), [(DIGEST, EXIT_OK), (OTHER, EXIT_REFUSED)])
def test_a_second_run_in_a_second_initrd(
    flow: Boot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, code: int
) -> None:
    """What names the root there is what the first initrd has handed over."""
    (tmp_path / "conf").write_bytes(b"cfsconf1\ndigest-source=first-initrd\n")
    handed = Payload([Digest.parse(named, "")])
    monkeypatch.setattr(handed_over, "load", lambda: ({}, handed))
    monkeypatch.setattr(compose, "mounted_at", lambda _: Digest.parse(DIGEST, ""))
    (tmp_path / "root.json").write_text(f'{{"digest": "sha256:{DIGEST}"}}\n')
    monkeypatch.setattr(status, "PATH", str(tmp_path / "root.json"))
    assert setup_root.main([]) == code
    assert flow.asked == []
