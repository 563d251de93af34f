# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What all host commands do with an answer that nobody gets."""

import _cfs
import argparse
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pyinit import VERSION
from pyinit.host.atomic import write_file
from pyinit.host.commands import cfs_init_config, cfs_store, cfs_uki, command
from pyinit.host.uki.seal import format_digests
from pyinit.initrd.root.digest import Digest
from tests.host.uki.test_pe_write import Image

FULL = "error: standard output: No space left on device (ENOSPC)\n"


def run(
    command: str, *arguments: str, stdout: int | None, buffered: bool = True
) -> tuple[int, str]:
    """The exit code, and stderr; `stdout` None: closed."""
    module = f"pyinit.host.commands.{command.replace('-', '_')}"
    program = f"from {module} import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, *([] if buffered else ["-u"]), "-c", program, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=(lambda: os.close(1)) if stdout is None else None,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def uki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose digests do not fit a buffer."""
    path = tmp_path_factory.mktemp("uki") / "a.efi"
    sections = [(".linux", b"kernel")]
    for number in range(20):
        digests = [Digest(_cfs.SHA512, bytes([number, i] * 32)) for i in range(16)]
        sections += [(".profile", b"ID=a"), (".cfsdig", format_digests(digests))]
    path.write_bytes(Image(sections, headers_size=2560).build())
    return path


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "command",
    ["cfs-uki --help", "cfs-store add -h", "cfs-uki help", "cfs-uki --version", "cfs-uki digests"],
)
def test_a_full_disk(command: str, buffered: bool, uki: Path) -> None:
    name, *arguments = command.split()
    arguments += [str(uki)] * (arguments == ["digests"])
    with open("/dev/full", "wb") as full:
        assert run(name, *arguments, stdout=full.fileno(), buffered=buffered) == (
            2,
            f"{name}: {FULL}",
        )


MAINS = {"cfs-uki": cfs_uki, "cfs-store": cfs_store, "cfs-init-config": cfs_init_config}


@pytest.mark.parametrize("name", MAINS)
def test_version_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = MAINS[name].main
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{name} {VERSION}\n"
    assert main(["help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {name} [-h] [--version] VERB ...\n")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == said
    for verb in re.findall(r"^    ([a-z]+) ", said, re.MULTILINE):
        assert main(["help", verb]) == 0
        of_verb = capsys.readouterr().out
        assert of_verb.startswith(f"usage: {name} {verb} ")
        assert main([verb, "--help"]) == 0
        assert capsys.readouterr().out == of_verb
    assert main(["help", "nothing"]) == 1
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("named", [None, "", "0", "-5", "x", " 61 ", "200", "9" * 5000])
@pytest.mark.parametrize("stdout", ["none", "closed", "file", "terminal", "terminal of 0", "77"])
def test_help_is_as_wide_as_without_a_formatter_of_our_own(
    named: str | None, stdout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """argparse asks shutil."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if named is not None:
        monkeypatch.setenv("COLUMNS", named)
    main, terminal = pty.openpty()
    width = {"terminal": 33, "77": 77}.get(stdout, 0)
    termios.tcsetwinsize(terminal, (9, width))
    to = (
        (tmp_path / "out").open("w")
        if stdout == "file"
        else os.fdopen(terminal, "w", closefd=False)
    )
    if stdout == "closed":
        to.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "__stdout__", None if stdout == "none" else to)
        parser = command.Parser(prog="cfs-x", description="word " * 60)
        said = parser.format_help()
        parser.formatter_class = argparse.HelpFormatter
        assert said == parser.format_help()
        assert command.columns() == shutil.get_terminal_size().columns
    for fd in (main, terminal):
        os.close(fd)
    to.close()


def test_what_is_refused_is_told_all_the_same(uki: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        code, said = run("cfs-uki", "digests", str(tmp_path), str(uki), stdout=full.fileno())
    assert code == 2
    assert said.splitlines()[0].endswith("no UKI in it, expected at least one")
    assert said.endswith(FULL)


def test_a_reader_that_left(uki: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        assert run("cfs-uki", "digests", str(uki), stdout=pipe.fileno()) == (2, "")


@pytest.mark.parametrize("arguments", [["--help"], ["digests"]])
def test_a_closed_standard_output(arguments: list[str], uki: Path) -> None:
    arguments = arguments + [str(uki)] * (arguments == ["digests"])
    code, said = run("cfs-uki", *arguments, stdout=None)
    assert (code, said) == (2, "cfs-uki: error: standard output: Bad file descriptor (EBADF)\n")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_an_exception_does(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that what it was writing goes away."""
    target = tmp_path / "file"

    def verb(_: argparse.Namespace) -> int:
        write_file(target, [b"data"], 0o644, lambda _: os.kill(os.getpid(), number))
        return 0

    parser = command.VerbParser("cfs-x", "")
    parser.add_verb("write", verb, "")
    assert command.run("cfs-x", parser, ["write"]) == 2
    assert capsys.readouterr().err == "cfs-x: interrupted\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    def verb(_: argparse.Namespace) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    parser = command.VerbParser("cfs-x", "")
    parser.add_verb("wait", verb, "")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command.run("cfs-x", parser, ["wait"]) == 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
