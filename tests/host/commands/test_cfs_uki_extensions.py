# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-uki seal`, `payload`, `show` and `digests` with what a UKI names beside the root."""

import json
from pathlib import Path
from stat import S_IFREG

import pytest

from pyinit.host.commands.cfs_uki import main
from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.host.uki.read import Uki
from pyinit.host.uki.seal import format_digests
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config
from tests.host.commands.test_cfs_uki import ONE, TWO, Capture, sealed_initrd, write


def test_extensions(plain_uki: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "out.efi"
    named = ["--sysext", f"debug={TWO}", "--confext", f"site={ONE.hex}", "--app", f"a.b={TWO}"]
    assert main(["seal", "--digest", ONE.hex, *named, str(plain_uki), "-o", str(target)]) == 0
    assert main(["show", str(target)]) == 0
    text = capsys.readouterr().out
    assert f"  app.a.b: {TWO}\n  confext.site: {ONE}\n  sysext.debug: {TWO}\n  agree:   yes" in text
    assert main(["show", "--json", str(target)]) == 0
    [about] = json.loads(capsys.readouterr().out)["digests"]
    assert about["extensions"] == {"confext.site": str(ONE), "sysext.debug": str(TWO)}
    assert about["apps"] == {"a.b": str(TWO)}
    # Whoever keeps what a UKI names keeps these too.
    assert main(["digests", str(target)]) == 0
    assert capsys.readouterr().out == f"{ONE}\n{TWO}\n"
    assert main(["payload", "--digest", ONE.hex, *named, str(tmp_path)]) == 0
    capsys.readouterr()
    data = (tmp_path / "cfsdig").read_bytes()
    assert Uki(target).read(".cfsdig") == data
    extensions = {"sysext.debug": TWO, "confext.site": ONE, "app.a.b": TWO}
    assert data == format_digests([ONE], extensions)


def test_a_second_initrd(plain_uki: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "out.efi"
    named = ["--initrd", TWO.hex, "--sysext", f"debug={ONE}"]
    assert main(["seal", "--digest", ONE.hex, *named, str(plain_uki), "-o", str(target)]) == 0
    assert main(["show", str(target)]) == 0
    assert f"  initrd: {TWO}\n  sysext.debug: {ONE}\n  agree: " in capsys.readouterr().out
    assert main(["show", "--json", str(target)]) == 0
    [about] = json.loads(capsys.readouterr().out)["digests"]
    assert (about["initrd"], about["extensions"]) == (str(TWO), {"sysext.debug": str(ONE)})
    assert main(["digests", str(target)]) == 0
    assert capsys.readouterr().out == f"{ONE}\n{TWO}\n"
    assert main(["payload", "--digest", ONE.hex, *named, str(tmp_path)]) == 0
    capsys.readouterr()
    data = (tmp_path / "cfsdig").read_bytes()
    assert data == format_digests([ONE], {"initrd": TWO, "sysext.debug": ONE})
    command = ["seal", "--replace", "--digest", TWO.hex, "--sysext", f"debug={ONE}"]
    assert main([*command, str(target), "-o", str(target)]) == 0
    said = f"named initrd {TWO}, and the sealed one does not: give --initrd {TWO} again"
    assert said in capsys.readouterr().err
    assert main(["payload", "--digest", ONE.hex, "--initrd", "x", str(tmp_path)]) == 1
    assert "--initrd: " in capsys.readouterr().err


def test_what_a_uki_does_not_name_any_more_is_told(
    plain_uki: Path, tmp_path: Path, capsys: Capture
) -> None:
    target = str(tmp_path / "out.efi")
    named = ["--sysext", f"debug={TWO}", "--confext", f"site={ONE}"]
    assert main(["seal", "--digest", ONE.hex, *named, str(plain_uki), "-o", target]) == 0
    assert "and the sealed one" not in capsys.readouterr().err
    command = ["seal", "--replace", "--digest", TWO.hex, "--sysext", f"debug={ONE}"]
    assert main([*command, target, "-o", target]) == 0
    said = capsys.readouterr().err
    assert f"named confext site={ONE}, and the sealed one does not: give --confext site=" in said
    assert "sysext debug" not in said


def test_copies_that_name_other_extensions_do_not_agree(tmp_path: Path, capsys: Capture) -> None:
    sections = [(".cfsdig", format_digests([ONE], {"sysext.a": TWO})), sealed_initrd(ONE)]
    path = write(tmp_path / "a.efi", *sections)
    assert main(["show", str(path)]) == 0
    assert "agree:   NO" in capsys.readouterr().out
    assert main(["digests", str(path)]) == 0
    assert capsys.readouterr().out == f"{ONE}\n{TWO}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sysext", "debug"], "--sysext: 'debug', expected NAME=DIGEST"),
        (["--sysext", f"={TWO}"], "expected NAME=DIGEST"),
        (["--sysext", "debug="], "--sysext debug: "),
        (["--confext", "a=12"], "--confext a: "),
        (["--app", "debug"], "--app: 'debug', expected NAME=DIGEST"),
        (["--app", f"A={TWO}"], "app.A: a name is a letter or digit"),
        (["--sysext", f"A={TWO}"], "sysext.A: a name is a letter or digit"),
        (["--sysext", f"a={TWO}", "--sysext", f"a={ONE}"], "a is there twice"),
    ],
)
def test_what_names_no_extension(
    arguments: list[str], said: str, plain_uki: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["seal", "--digest", ONE.hex, *arguments, str(plain_uki), "-o", str(tmp_path / "a")]
    assert main(command) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("etc", "kind", "warned"),
    [("overlay", "confext", True), ("overlay", "sysext", False), ("bind", "confext", False)],
)
def test_an_etc_above_which_some_kernels_stack_nothing(
    etc: str, kind: str, warned: bool, tmp_path: Path, capsys: Capture
) -> None:
    settings = Config()
    settings.etc = etc
    entry = Entry("usr/lib/composefs/setup-root.conf", S_IFREG | 0o644, config.format(settings))
    path = write(tmp_path / "a.efi", (".initrd", write_cpio([entry])), (".cmdline", b"quiet"))
    command = ["seal", "--digest", ONE.hex, f"--{kind}", f"a={TWO}", str(path), "-o", str(path)]
    assert main(command) == 0
    said = '[etc] mount is "overlay" in its initrd: older kernels (seen: 6.12) stack no extension'
    assert (said in capsys.readouterr().err) == warned
