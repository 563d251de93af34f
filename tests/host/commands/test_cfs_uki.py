# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The command `cfs-uki`: arguments, output, exit codes."""

import _cfs
import json
import os
import subprocess
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_uki import main
from pyinit.host.uki import read
from pyinit.host.uki.read import Uki
from pyinit.host.uki.seal import carried_archive, format_digests
from pyinit.initrd.root.digest import Digest
from tests.core.pe_builder import with_field
from tests.host.conftest import UkiParts
from tests.host.uki.test_pe_write import Image

ONE, TWO = (Digest(_cfs.SHA256, bytes([number] * 32)) for number in (1, 2))
LINUX = (".linux", b"kernel")
OPAQUE = (".initrd", b"\x28\xb5\x2f\xfdcompressed")
PROFILE = (".profile", b"ID=a")

Capture = pytest.CaptureFixture[str]


def write(path: Path, *sections: tuple[str, bytes]) -> Path:
    path.write_bytes(Image([(".text", b"code"), LINUX, *sections]).build())
    return path


def sealed_section(*digests: Digest) -> tuple[str, bytes]:
    return (".cfsdig", format_digests(list(digests)))


def sealed_initrd(*digests: Digest) -> tuple[str, bytes]:
    return (".initrd", carried_archive(format_digests(list(digests))))


def test_seal_and_show(plain_uki: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "out.efi"
    digests = ["--digest", ONE.hex, "--digest", str(TWO)]
    assert main(["seal", *digests, str(plain_uki), "-o", str(target)]) == 0
    assert main(["show", str(target)]) == 0
    text = capsys.readouterr().out
    assert "machine:      x86_64\nsigned:       no\ncommand line: console=ttyS0 quiet\n" in text
    assert f"  section: {ONE}\n  section: {TWO}\n  carried: {ONE}\n  carried: {TWO}\n" in text
    assert "agree:   yes" in text

    assert main(["show", "--json", str(target)]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["digests"] == [
        {
            "profile": None,
            "section": [str(ONE), str(TWO)],
            "carried": [str(ONE), str(TWO)],
            "initrd": None,
            "extensions": {},
            "apps": {},
            "embedded": None,
            "agree": True,
        }
    ]
    sections = {section["name"]: section for section in about["sections"]}
    assert target.read_bytes()[sections[".cmdline"]["offset"] :].startswith(b"console=ttyS0 quiet")
    assert sections[".cmdline"]["size"] == len("console=ttyS0 quiet")
    assert (about["machine"], about["signed"], about["profiles"]) == ("x86_64", False, 0)


def test_show_is_json_for_a_strict_reader(tmp_path: Path, capsys: Capture) -> None:
    """Whatever bytes the file's name has."""
    path = write(tmp_path / os.fsdecode(b"\xff.efi"), sealed_section(ONE))
    assert main(["show", "--json", str(path)]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["file"], about["escaped"]) == (f"{tmp_path}/\\xff.efi", ["file"])


def test_what_payload_writes_ukify_takes(
    uki_parts: UkiParts, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["payload", "--digest", ONE.hex, str(tmp_path)]) == 0
    output = capsys.readouterr()
    options = output.out.split()
    assert output.err == (
        "cfs-uki: the UKI needs a command line too (--cmdline=): without one, whoever starts the "
        "UKI chooses init= and its arguments\n"
    )
    uki = Uki(uki_parts.ukify(tmp_path / "out.efi", *options))
    assert uki.section_digests() == uki.carried_digests() == [ONE]


def test_one_payload_for_all_profiles(uki_parts: UkiParts, tmp_path: Path, capsys: Capture) -> None:
    # Sealing refuses several profiles; ukify puts the payload into the base, which all share.
    addition, path = tmp_path / "profile.efi", tmp_path / "out.efi"
    subprocess.run(
        [
            *uki_parts.toolbox.script("ukify"),
            "build",
            f"--stub={uki_parts.stub.with_name('addonx64.efi.stub')}",
            "--profile=ID=other",
            "--cmdline=other",
            f"--output={addition}",
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    assert main(["payload", "--digest", ONE.hex, str(tmp_path)]) == 0
    options = capsys.readouterr().out.split()
    uki_parts.ukify(path, *options, f"--join-profile={addition}")
    assert main(["show", "--json", str(path)]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["profiles"] == 2
    assert about["digests"] == [
        {
            "profile": None,
            "section": [str(ONE)],
            "carried": [str(ONE)],
            "initrd": None,
            "extensions": {},
            "apps": {},
            "embedded": None,
            "agree": True,
        }
    ]
    assert main(["seal", "--digest", ONE.hex, str(path), "-o", str(path)]) == 32
    assert "2 profiles" in capsys.readouterr().err


def test_digests_of_profiles(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", sealed_section(ONE), PROFILE, sealed_section(TWO))
    assert main(["digests", str(path)]) == 0
    assert capsys.readouterr().out == f"{ONE}\n{TWO}\n"
    assert main(["show", str(path)]) == 0
    assert f"digests of profile 0:\n  section: {TWO}\n" in capsys.readouterr().out


def test_show_says_when_the_copies_differ(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", sealed_section(ONE), sealed_initrd(TWO))
    assert main(["show", str(path)]) == 0
    assert "agree:   NO" in capsys.readouterr().out
    path = write(tmp_path / "a.efi", sealed_section(ONE), (".initrd", b"compressed"))
    assert main(["show", str(path)]) == 0
    assert "agree:   only one copy is to be seen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "unsigned"),
    [
        ([], True),
        ([(".cmdline", b"quiet")], False),
        ([(".cmdline", b"quiet"), PROFILE, PROFILE, (".cmdline", b"other")], False),
        ([PROFILE, (".cmdline", b"one"), PROFILE, (".cmdline", b"two")], False),
        ([PROFILE, (".cmdline", b"one"), PROFILE], True),
    ],
)
def test_show_says_where_the_command_line_is_not_signed(
    sections: list[tuple[str, bytes]], unsigned: bool, tmp_path: Path, capsys: Capture
) -> None:
    path = write(tmp_path / "a.efi", *sections)
    assert main(["show", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["unsigned_command_line"] is unsigned
    assert main(["show", str(path)]) == 0
    said = "UNSIGNED: whoever starts the UKI chooses init= and its arguments\n"
    assert (said in capsys.readouterr().out) is unsigned


def seal_said(path: Path, capsys: Capture, *options: str) -> tuple[int, str]:
    code = main(["seal", "--digest", ONE.hex, *options, str(path), "-o", str(path)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("command_line", "closed"),
    [
        (b"quiet", False),
        (b"systemd.import_credentials=yes", False),
        (b"systemd.import_credentials=no systemd.import_credentials", False),
        (b"a.systemd.import_credentials=no", False),
        (b"systemd.import_credentials=no\0", True),
        (b"systemd.import-credentials=0 quiet", True),
        (b"systemd.import_credentials=1 systemd.import_credentials=False", True),
    ],
)
def test_seal_warns_of_credentials(
    command_line: bytes, closed: bool, tmp_path: Path, capsys: Capture
) -> None:
    path = write(tmp_path / "a.efi", OPAQUE, (".cmdline", command_line))
    warning = (
        f"cfs-uki: warning: {path}: .cmdline without systemd.import_credentials=no: where systemd "
        "is in the initrd or the root, what lies beside the UKI adds units to it\n"
    )
    assert seal_said(path, capsys) == (0, "" if closed else warning)


def test_seal_without_a_command_line(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", OPAQUE)
    assert seal_said(path, capsys)[0] == 32
    warning = f"{path}: no .cmdline: whoever starts the UKI chooses init= and its arguments\n"
    said = (0, f"cfs-uki: warning: {warning}")
    assert seal_said(path, capsys, "--unsigned-command-line") == said


def test_show_is_one_line_per_line(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", (".cmdline", b"quiet\x1b[2J\nsigned: yes\xff\0"))
    assert main(["show", str(path)]) == 0
    assert r"command line: quiet\x1b[2J\nsigned: yes\\xff" + "\n" in capsys.readouterr().out


def test_a_section_that_is_longer_in_memory_ends_with_its_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.efi", (".data", b"x" * 512), (".initrd", b"other"))
    data = path.read_bytes()
    size_at = data.index(b".data\0\0\0") + 8
    path.write_bytes(data[:size_at] + (1000).to_bytes(4, "little") + data[size_at + 4 :])
    uki = Uki(path)
    assert uki.sections[2].size == 1000
    assert uki.content(2) == b"x" * 512


def test_digests_of_directories(tmp_path: Path, capsys: Capture) -> None:
    deep = tmp_path / "EFI" / "Linux"
    deep.mkdir(parents=True)
    write(deep / "b.efi", sealed_section(TWO), sealed_initrd(TWO))
    write(deep / "a.EFI", sealed_section(ONE, TWO), sealed_initrd(ONE, TWO))
    (deep / "no-uki.conf").write_bytes(b"not looked at")
    assert main(["digests", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "".join(sorted([f"{ONE}\n", f"{TWO}\n"]))


@pytest.mark.parametrize(
    "sections",
    [
        [sealed_section(ONE)],
        [sealed_section(ONE), OPAQUE],
        [sealed_initrd(ONE)],  # as mkosi builds it
        [(".initrd", sealed_initrd(ONE)[1] + OPAQUE[1])],
        [sealed_initrd(ONE), PROFILE, PROFILE],
        [sealed_section(ONE), PROFILE, OPAQUE],
        # The base of a UKI with profiles is not booted.
        [OPAQUE, PROFILE, sealed_section(ONE), PROFILE, sealed_initrd(ONE)],
    ],
)
def test_digests_takes_one_copy_where_the_other_is_missing(
    sections: list[tuple[str, bytes]], tmp_path: Path, capsys: Capture
) -> None:
    path = write(tmp_path / "a.efi", *sections)
    assert main(["digests", str(path)]) == 0
    assert capsys.readouterr() == (f"{ONE}\n", "")


def test_digests_of_copies_that_differ_are_both_named(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", sealed_section(ONE), sealed_initrd(TWO))
    assert main(["digests", str(path)]) == 0
    assert capsys.readouterr() == (f"{ONE}\n{TWO}\n", "")


@pytest.mark.parametrize(
    "sections",
    [
        [(".cmdline", f"quiet composefs={ONE.hex}".encode())],
        [(".cmdline", f"composefs composefs.digest=?v1-sha256-12:{ONE.hex}".encode()), OPAQUE],
        [(".cmdline", f"composefs=?{ONE.hex}".encode()), PROFILE, PROFILE],
        [(".cmdline", b"quiet"), PROFILE, (".cmdline", f"composefs={ONE.hex}\0".encode())],
    ],
)
def test_digests_of_a_command_line(
    sections: list[tuple[str, bytes]], tmp_path: Path, capsys: Capture
) -> None:
    """As bootc seals a UKI. A `?` asks for no check, and names the image all the same."""
    path = write(tmp_path / "a.efi", *sections)
    assert main(["digests", str(path)]) == 0
    assert capsys.readouterr() == (f"{ONE}\n", "")


def test_a_command_line_that_names_none(tmp_path: Path, capsys: Capture) -> None:
    """A profile's own command line is instead of the base's."""
    line = (".cmdline", f"composefs={ONE.hex}".encode())
    for sections in ([line, PROFILE, (".cmdline", b"quiet")], [(".cmdline", b"composefs=ab")],
                     [(".cmdline", b"composefs=")]):  # fmt: skip
        assert main(["digests", str(write(tmp_path / "a.efi", *sections))]) == 32
        assert f"refused: source: {tmp_path}/a.efi" in capsys.readouterr().err


def test_digests_before_what_is_refused_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a.efi", sealed_initrd(ONE), PROFILE, OPAQUE)
    assert main(["digests", str(path)]) == 32
    assert capsys.readouterr().out == f"{ONE}\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"no PE", "not a valid PE file"),
        # An add-on of the stub that may hold a digest
        (Image([(".text", b"add-on"), OPAQUE]).build(), "no .linux section"),
        (Image([(".text", b"add-on"), sealed_section(TWO)]).build(), "no .linux section"),
        (Image([LINUX]).build(), "no .cfsdig section, no composefs= in .cmdline, and no usr/lib/"),
        (
            Image([LINUX, OPAQUE]).build(),
            "no .cfsdig section, no composefs= in .cmdline, and no usr/lib/",
        ),
        (
            Image([LINUX, OPAQUE, PROFILE, OPAQUE]).build(),
            "no .cfsdig section, no composefs= in .cmdline, and no usr/lib/",
        ),
        # The one profile shows what it boots, the other one hides it.
        (
            Image([LINUX, sealed_initrd(ONE), PROFILE, PROFILE, OPAQUE]).build(),
            "no .cfsdig section, no composefs= in .cmdline, and no usr/lib/",
        ),
        (Image([LINUX, (".cfsdig", b"cfsdig2\n")]).build(), "cfsdig"),
        (Image([LINUX, sealed_section(ONE), sealed_section(TWO)]).build(), ".cfsdig twice"),
    ],
)
def test_digests_lists_the_rest(
    content: bytes, found: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "bad.efi").write_bytes(content)
    write(tmp_path / "good.efi", sealed_section(ONE))
    assert main(["digests", str(tmp_path)]) == 32
    output = capsys.readouterr()
    assert output.out == f"{ONE}\n"
    [line] = output.err.splitlines()
    assert line.startswith(f"cfs-uki: refused: source: {tmp_path / 'bad.efi'}")
    assert found in line


def test_digests_passes_over_what_boots_no_root(tmp_path: Path, capsys: Capture) -> None:
    loader = tmp_path / "systemd-bootx64.efi"
    loader.write_bytes(Image([(".text", b"boot loader"), (".sdmagic", b"#### ")]).build())
    (tmp_path / "a.addon.efi").write_bytes(Image([(".cmdline", b"quiet")]).build())
    write(tmp_path / "good.efi", sealed_section(ONE))
    assert main(["digests", str(tmp_path)]) == 0
    assert capsys.readouterr() == (f"{ONE}\n", "")
    # Who names it means it to be a UKI.
    assert main(["digests", str(loader), str(tmp_path)]) == 32
    output = capsys.readouterr()
    assert output.out == f"{ONE}\n"
    assert f"{loader}: no .linux section, expected a UKI" in output.err


def test_what_the_strict_reader_refuses_is_passed_over_where_it_names_no_root(
    tmp_path: Path, capsys: Capture
) -> None:
    """An ESP has shim (a string table), fwupd and memtest86+ (an odd alignment)."""
    esp = tmp_path / "esp"
    esp.mkdir()
    odd = with_field(Image([(".text", b"tool"), ("/4", b"debug")]).build(), "FileAlignment", 1)
    (esp / "memtest.efi").write_bytes(odd)
    good = write(esp / "good.efi", sealed_section(ONE))
    assert main(["digests", str(esp)]) == 0
    assert capsys.readouterr() == (f"{ONE}\n", "")
    # Named by itself, and shown, it is refused: with what it has instead.
    assert main(["digests", str(esp / "memtest.efi")]) == 32
    assert main(["show", str(esp / "memtest.efi")]) == 32
    output = capsys.readouterr()
    assert output.out.startswith("sections:\n  .text    ")
    assert "\n  /4 " in output.out
    assert "not a valid PE file (optional header: FileAlignment" in output.err
    # One that may name a root is not passed over, whatever its table is like.
    good.write_bytes(with_field(good.read_bytes(), "FileAlignment", 1))
    assert main(["digests", str(esp)]) == 32
    assert f"{good}: not a valid PE file" in capsys.readouterr().err


def test_an_initrd_of_a_profile_comes_instead_of_the_base(tmp_path: Path, capsys: Capture) -> None:
    """Without a copy the profile does not boot, whatever the base has."""
    path = write(
        tmp_path / "a.efi", sealed_section(ONE), sealed_initrd(ONE), PROFILE, OPAQUE,
        PROFILE, sealed_section(ONE), PROFILE, (".cmdline", b"quiet"),
    )  # fmt: skip
    assert main(["show", "--json", str(path)]) == 0
    both = {"section": [str(ONE)], "carried": [str(ONE)], "agree": True}
    both |= {"initrd": None, "extensions": {}, "apps": {}, "embedded": None}
    assert json.loads(capsys.readouterr().out)["digests"] == [
        {"profile": None, **both},
        {
            "profile": 0,
            "section": [str(ONE)],
            "carried": None,
            "initrd": None,
            "extensions": {},
            "apps": {},
            "embedded": None,
            "agree": None,
        },
        {"profile": 1, **both},
    ]
    assert main(["show", str(path)]) == 0
    text = capsys.readouterr().out
    assert (
        f"digests of profile 0:\n  section: {ONE}\n  carried: none\n  agree:   only one copy is to "
        "be seen; without a copy in its own initrd this profile does not boot\n"
    ) in text


@pytest.mark.parametrize("loader", [False, True])
def test_digests_of_a_directory_without_a_uki_are_not_none(
    loader: bool, tmp_path: Path, capsys: Capture
) -> None:
    """Such as the mount point of an ESP that is not mounted."""
    esp, other = tmp_path / "esp", tmp_path / "other"
    esp.mkdir()
    other.mkdir()
    if loader:
        (esp / "shim.efi").write_bytes(Image([(".text", b"boot loader")]).build())
    write(other / "good.efi", sealed_section(ONE))
    assert main(["digests", str(esp), str(other)]) == 32
    output = capsys.readouterr()
    assert output.out == f"{ONE}\n"
    assert output.err == f"cfs-uki: refused: source: {esp}: no UKI in it, expected at least one\n"


def test_digests_does_not_wait_for_a_fifo(tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo.efi")
    assert main(["digests", str(tmp_path)]) == 32
    assert "not a regular file" in capsys.readouterr().err


def test_an_impossible_alignment_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.efi"
    path.write_bytes(with_field(Image([LINUX]).build(), "SectionAlignment", 0))
    assert main(["seal", "--digest", ONE.hex, str(path), "-o", str(tmp_path / "out.efi")]) == 32
    assert "optional header: SectionAlignment is no power of two" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [ZeroDivisionError("\x1binside"), RecursionError()])
def test_a_bug_is_4(wrong: Exception, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def fail(path: Path) -> None:
        raise wrong

    monkeypatch.setattr(read, "Uki", fail)
    assert main(["show", "a.efi"]) == 4
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert "test_cfs_uki.py" in lines[-2]
    assert lines[-1] in {r"ZeroDivisionError: \x1binside", "RecursionError"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: "),
        (["seal", "in.efi", "-o", "out.efi"], "--digest"),
        (["seal", "--digest", "", "in.efi", "-o", "o"], "--digest: an empty digest"),
        (["seal", "--digest", "AB" * 32, "in.efi", "-o", "o"], "error: usage: --digest: "),
        (["payload", "--digest", "0" * 63, "."], "wrong length"),
        (["digests"], "FILE|DIR"),
    ],
)
def test_wrong_use_is_1(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_system_errors_are_2(tmp_path: Path, capsys: Capture) -> None:
    for arguments in (
        ["show", str(tmp_path / "absent.efi")],
        ["digests", str(tmp_path / "absent.efi")],
        ["payload", "--digest", ONE.hex, str(tmp_path / "absent")],
    ):
        assert main(arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("cfs-uki: error: source: ")
        assert line.endswith("No such file or directory (ENOENT)")
