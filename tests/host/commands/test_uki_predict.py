# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The command `cfs-uki predict`: arguments, output, what it assumes, what it refuses."""

import _cfs
import hashlib
import json
from pathlib import Path
from stat import S_IFREG

import pytest

from pyinit.host.commands.cfs_uki import main
from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.host.uki.seal import carried_archive, format_digests
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config
from tests.core.pe_builder import Section, build, with_certificates
from tests.host.uki.test_pe_write import Image

ONE, TWO = (Digest(_cfs.SHA256, bytes([number] * 32)) for number in (1, 2))
STUB = (".sdmagic", b"#### LoaderInfo: systemd-stub 257.13-1 ####")
KERNEL = (".linux", build([Section(b".text", b"kernel" * 100)]))
OPAQUE = (".initrd", b"\x28\xb5\x2f\xfdcompressed")
BANKS = ["sha1", "sha256", "sha384", "sha512"]

Capture = pytest.CaptureFixture[str]


def initrd(pcr: str | None, *digests: Digest) -> tuple[str, bytes]:
    made = Config()
    made.measure_pcr = pcr or "none"
    name = "usr/lib/composefs/setup-root.conf"
    archive = write_cpio([Entry(name, S_IFREG | 0o644, config.format(made))] if pcr else [])
    return (".initrd", archive + carried_archive(format_digests(list(digests))))


def write(path: Path, *sections: tuple[str, bytes]) -> str:
    path.write_bytes(Image([(".text", b"code"), KERNEL, *sections], headers_size=1536).build())
    return str(path)


@pytest.fixture
def uki(tmp_path: Path) -> str:
    return write(tmp_path / "uki.efi", STUB, initrd("15", ONE))


def value(*texts: str, bank: str = "sha256") -> str:
    """Of a PCR that was extended by these."""
    found = bytes(hashlib.new(bank).digest_size)
    for text in texts:
        found = hashlib.new(bank, found + hashlib.new(bank, text.encode()).digest()).digest()
    return found.hex()


def text_of(image: Digest, source: str = "carried") -> str:
    return f"composefs:/:sha256:{image.hex}:{source}"


def said(capsys: Capture, *arguments: str) -> str:
    assert main(["predict", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: Capture, code: int, *arguments: str) -> str:
    assert main(["predict", *arguments]) == code
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_json(uki: str, capsys: Capture) -> None:
    about = json.loads(said(capsys, "--json", uki))
    assert (about["file"], about["profile"], about["stub"]) == (uki, None, "257.13-1")
    four, eleven, root = about["pcrs"]
    assert [each["pcr"] for each in about["pcrs"]] == [4, 11, 15]
    assert [each["image"] for each in about["pcrs"]] == [None, None, str(ONE)]
    assert [list(each["moments"][0]["values"]) for each in about["pcrs"]] == [BANKS] * 3
    assert [moment["after"] for moment in eleven["moments"]] == [
        "enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit",
        "enter-initrd:leave-initrd:sysinit:ready",
    ]  # fmt: skip
    assert [event["what"] for event in four["events"]] == [
        "EV_EFI_ACTION Calling EFI Application from Boot Option", "EV_SEPARATOR", uki,
        f"{uki}: .linux",
    ]  # fmt: skip
    assert [event["what"] for event in eleven["events"][:2]] == [".linux (its name)", ".linux"]
    [event], [moment] = root["events"], root["moments"]
    assert (event["what"], moment["after"]) == (text_of(ONE), "the root")
    assert moment["values"] == {bank: value(text_of(ONE), bank=bank) for bank in BANKS}
    assert any(text.startswith("PCR 15: nothing else extends it") for text in about["assumed"])


def test_for_people(uki: str, capsys: Capture) -> None:
    assert main(["predict", "--bank", "sha256", "--pcr", "15", uki]) == 0
    output = capsys.readouterr()
    assert output.out == (
        f"{uki}\nPCR 15 of {ONE}, after the root:\n  sha256 {value(text_of(ONE))}\n"
    )
    assert output.err == (
        "cfs-uki: warning: PCR 15 alone proves nothing, since any system can extend it by the same:"
        " for a key give --pcr 4 --pcr 11 too\n"
        "cfs-uki: assumed: PCR 15: nothing else extends it, though systemd does: see cfs-uki(8)\n"
    )


def test_the_pcrs_of_one_bank_and_one_phase(uki: str, capsys: Capture) -> None:
    arguments = ["--phase", "enter-initrd", "--bank", "sha384"]
    text = said(capsys, *arguments, uki)
    phases = [line for line in text.splitlines() if line.startswith("PCR")]
    assert phases == [
        "PCR 4, after the kernel:", "PCR 11, after enter-initrd:",
        f"PCR 15 of {ONE}, after the root:",
    ]  # fmt: skip
    assert text.count("sha384") == 3
    assert "sha1" not in text


@pytest.mark.parametrize(
    ("name", "between", "first"), [("cryptenroll", "+", "15:sha256="), ("tpm2-tools", ",", "15=")]
)
def test_a_value_for_each_pcr(
    uki: str, capsys: Capture, name: str, between: str, first: str
) -> None:
    line = said(capsys, "--format", name, "--phase", ":", uki).rstrip("\n")
    about = json.loads(said(capsys, "--json", "--phase", ":", uki))
    values = [
        (each["pcr"], each["moments"][-1]["values"]["sha256"]) for each in about["pcrs"]
    ]  # fmt: skip
    if name == "tpm2-tools":
        assert line == "sha256:" + between.join(f"{pcr}={found}" for pcr, found in values)
    else:
        assert line == between.join(f"{pcr}:sha256={found}" for pcr, found in values)
    assert first + value(text_of(ONE)) in line


def test_a_component_of_pcrlock(uki: str, capsys: Capture) -> None:
    """Without what systemd-pcrlock has of itself."""
    records = json.loads(said(capsys, "--format", "pcrlock", "--os-separator", uki))["records"]
    assert [record["pcr"] for record in records] == [4, 4, *[11] * 4, 15]
    assert records[-1]["digests"] == [
        {"hashAlg": bank, "digest": hashlib.new(bank, text_of(ONE).encode()).hexdigest()}
        for bank in BANKS
    ]


def test_extensions_follow_the_root(tmp_path: Path, capsys: Capture) -> None:
    """In the order of their keys, each with its place; before a soft reboot. No app is there."""
    data = format_digests([ONE], {"sysext.b": TWO, "confext.a": ONE, "app.c": TWO})
    known = initrd("15", ONE)[1]
    made = known[: -len(carried_archive(format_digests([ONE])))] + carried_archive(data)
    path = write(tmp_path / "a.efi", STUB, (".initrd", made))
    texts = [
        text_of(ONE), text_of(ONE).replace(":/:", ":/run/confexts/a:"),
        text_of(TWO).replace(":/:", ":/run/extensions/b:"),
    ]  # fmt: skip
    line = said(capsys, "--pcr", "15", "--format", "cryptenroll", path)
    assert line == f"15:sha256={value(*texts)}\n"
    line = said(
        capsys, "--soft-reboot", TWO.hex, "--pcr", "15", "--format", "cryptenroll", path
    )  # fmt: skip
    assert line == f"15:sha256={value(*texts, text_of(TWO, 'soft-reboot'))}\n"


def test_a_second_initrd_comes_before_the_root(tmp_path: Path, capsys: Capture) -> None:
    """Which it composes: a secret that is bound to the root is not had in it."""
    data = format_digests([ONE], {"app.a": TWO, "initrd": TWO, "sysext.b": ONE})
    known = initrd("15", ONE)[1]
    made = known[: -len(carried_archive(format_digests([ONE])))] + carried_archive(data)
    path = write(tmp_path / "a.efi", STUB, (".initrd", made))
    texts = [
        text_of(TWO).replace(":/:", ":initrd:"), text_of(ONE),
        text_of(ONE).replace(":/:", ":/run/extensions/b:"),
    ]  # fmt: skip
    line = said(capsys, "--pcr", "15", "--format", "cryptenroll", path)
    assert line == f"15:sha256={value(*texts)}\n"


def test_extensions_of_a_profile_with_an_initrd_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    """What the base's initrd carries is not booted then."""
    base = carried_archive(format_digests([ONE], {"sysext.base": ONE}))
    path = write(
        tmp_path / "a.efi", STUB, (".initrd", base), (".profile", b"ID=a"), OPAQUE,
        (".cfsdig", format_digests([TWO], {"sysext.own": TWO})),
    )  # fmt: skip
    arguments = ["--profile", "0", "--pcr", "15", "--format", "cryptenroll", "--source", "carried"]
    texts = [text_of(TWO), text_of(TWO).replace(":/:", ":/run/extensions/own:")]
    assert said(capsys, *arguments, path) == f"15:sha256={value(*texts)}\n"


def test_extensions_of_the_section(tmp_path: Path, capsys: Capture) -> None:
    section = (".cfsdig", format_digests([ONE], {"sysext.b": TWO}))
    path = write(tmp_path / "a.efi", STUB, OPAQUE, section)
    texts = [text_of(ONE, "uki"), text_of(TWO, "uki").replace(":/:", ":/run/extensions/b:")]
    arguments = ["--pcr", "15", "--format", "cryptenroll", "--source"]
    line = said(capsys, *arguments, "uki", path)
    assert line == f"15:sha256={value(*texts)}\n"
    path = write(
        tmp_path / "b.efi", STUB, OPAQUE, section, (".cmdline", b"composefs=" + ONE.hex.encode())
    )
    line = said(capsys, *arguments, "cmdline", path)
    assert line == f"15:sha256={value(text_of(ONE, 'cmdline'))}\n"


def test_soft_reboots(uki: str, tmp_path: Path, capsys: Capture) -> None:
    sections = [OPAQUE, (".cfsdig", format_digests([TWO]))]
    other = write(tmp_path / "other.efi", *sections)
    arguments = ["--soft-reboot", other, "--soft-reboot", ONE.hex]
    line = said(capsys, *arguments, "--pcr", "15", "--format", "cryptenroll", uki)
    texts = (text_of(ONE), text_of(TWO, "soft-reboot"), text_of(ONE, "soft-reboot"))
    assert line == f"15:sha256={value(*texts)}\n"


def test_two_images(tmp_path: Path, capsys: Capture) -> None:
    """The disk decides which one is composed; a key is bound to one."""
    path = write(tmp_path / "a", initrd("8", ONE, TWO))
    text = said(capsys, "--pcr", "8", "--bank", "sha256", path)
    assert f"PCR 8 of {ONE}, after the root:\n  sha256 {value(text_of(ONE))}\n" in text
    assert f"PCR 8 of {TWO}, after the root:\n  sha256 {value(text_of(TWO))}\n" in text
    for form in ("cryptenroll", "pcrlock"):
        error = refused(capsys, 1, "--pcr", "8", "--format", form, path)
        assert "--digest: not given, and the UKI names 2 images, expected one of them" in error
    arguments = ["--pcr", "8", "--format", "cryptenroll", "--digest", TWO.hex]
    assert said(capsys, *arguments, path) == f"8:sha256={value(text_of(TWO))}\n"


def test_an_initrd_that_cannot_be_seen(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a", OPAQUE, (".cmdline", b"composefs=" + ONE.hex.encode()))
    assert "expected --pcr N" in refused(capsys, 32, path)
    assert main(["predict", "--pcr", "12", "--format", "cryptenroll", path]) == 0
    output = capsys.readouterr()
    assert output.out == f"12:sha256={value(text_of(ONE, 'cmdline'))}\n"
    assert "assumed: PCR 12: the initrd measures the root into it\n" in output.err
    assert "assumed: PCR 12: the command line names the root (--source cmdline)\n" in output.err
    arguments = ["--pcr", "8", "--digest", TWO.hex, "--source", "carried"]
    assert value(text_of(TWO)) in said(capsys, *arguments, path)
    path = write(tmp_path / "b", OPAQUE)
    assert "no digest is to be seen in it" in refused(capsys, 32, "--pcr", "8", path)


def test_secure_boot_counts_where_the_stub_has_the_firmware_load_the_kernel(
    uki: str, tmp_path: Path, capsys: Capture
) -> None:
    def four(*arguments: str) -> str:
        return said(capsys, "--pcr", "4", "--bank", "sha256", *arguments).splitlines()[2]

    signed = tmp_path / "signed"
    data = Path(uki).read_bytes()
    signed.write_bytes(with_certificates(data + bytes(8), len(data), 8))
    off, on = four(uki, "--secure-boot", "no"), four(uki, "--secure-boot", "yes")
    assert off != on
    assert (four(uki), four(str(signed))) == (off, on)
    assert four(str(signed), "--secure-boot", "no") == off


def test_what_is_assumed_of_pcr_4(uki: str, tmp_path: Path, capsys: Capture) -> None:
    def assumed(*arguments: str) -> list[str]:
        found = json.loads(said(capsys, "--pcr", "4", "--json", *arguments))["assumed"]
        assert isinstance(found, list)
        return found

    text = "\n".join(assumed(uki))
    assert f"PCR 4: the firmware starts {uki} at once" in text
    assert "PCR 4: Secure Boot is off; for the stub, systemd 257, it matters" in text
    assert "PCR 4: the initrd has no systemd, or one before 261" in text
    loader = tmp_path / "loader"
    loader.write_bytes(build([Section(b".text", b"loader")]))
    other = write(tmp_path / "other", OPAQUE)
    text = "\n".join(assumed("--os-separator", "--loader", str(loader), other))
    assert f"PCR 4: the firmware starts {loader} at once" in text
    assert "its stub is not systemd's, and does not measure the kernel" in text
    assert "before 261" not in text


def test_what_is_assumed_of_pcr_11(uki: str, tmp_path: Path, capsys: Capture) -> None:
    def assumed(*arguments: str) -> list[str]:
        assert main(["predict", "--pcr", "4", "--pcr", "11", *arguments]) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line.removeprefix("cfs-uki: assumed: ") for line in lines if "PCR 11" in line]

    phases = "PCR 11: systemd is in the initrd, and measures the phases"
    assert assumed(uki) == [phases]
    assert assumed("--phase", ":", uki) == []
    other = write(tmp_path / "other", OPAQUE)
    assert assumed("--phase", ":", other) == [
        "PCR 11: its stub, which is not systemd's, measures what systemd-stub 262 does",
        "PCR 11: the initrd does not measure the root into it",
    ]
    newer = write(
        tmp_path / "newer", (".sdmagic", b"#### LoaderInfo: systemd-stub 300 ####"), OPAQUE
    )
    assert assumed(newer) == [
        "PCR 11: its stub, systemd 300, measures what systemd-stub 262 does", phases,
        "PCR 11: the initrd does not measure the root into it",
    ]  # fmt: skip


def test_what_is_assumed_of_the_source(uki: str, tmp_path: Path, capsys: Capture) -> None:
    """It is in what is measured."""

    def assumed(*arguments: str) -> list[str]:
        assert main(["predict", "--pcr", "8", "--pcr", "11", *arguments]) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line for line in lines if "--source" in line]

    hidden = write(tmp_path / "a", OPAQUE, (".cmdline", b"composefs=" + ONE.hex.encode()))
    line = "cfs-uki: assumed: PCR 8: the command line names the root (--source cmdline)"
    assert assumed(hidden) == [line]
    assert assumed("--source", "cmdline", hidden) == []
    line = "cfs-uki: assumed: PCR 8: a file in the initrd names the root (--source carried)"
    hidden = write(tmp_path / "b", (".initrd", OPAQUE[1].ljust(32) + initrd(None, ONE)[1]))
    assert assumed(hidden) == [line]
    assert assumed(write(tmp_path / "c", initrd("8", ONE))) == []


def test_profiles(tmp_path: Path, capsys: Capture) -> None:
    path = write(
        tmp_path / "a", initrd("15", ONE), (".profile", b"ID=a"), (".profile", b"ID=b"),
        (".cmdline", b"own"),
    )  # fmt: skip
    zero, one = (
        json.loads(said(capsys, "--json", "--profile", number, path)) for number in ("0", "1")
    )
    assert (zero["profile"], one["profile"]) == (0, 1)
    assert zero["pcrs"][0] == one["pcrs"][0]
    assert zero["pcrs"][1] != one["pcrs"][1]
    assert json.loads(said(capsys, "--json", path)) == zero
    for number in ("2", "-1"):
        error = refused(capsys, 32, "--profile", number, path)
        assert f"no profile {number}, expected one of its 2, from 0 on" in error
    old = write(tmp_path / "b", (".sdmagic", STUB[1].replace(b"257", b"252")), (".profile", b"ID"))
    assert "its stub, systemd 252, knows no profiles" in refused(capsys, 32, "--pcr", "4", old)


def test_pcr_12_has_the_number_of_a_profile(tmp_path: Path, capsys: Capture) -> None:
    path = write(
        tmp_path / "a", initrd("12", ONE), (".profile", b"ID=a"), (".profile", b"ID=b"),
    )  # fmt: skip
    assert value(text_of(ONE)) in said(capsys, "--pcr", "12", path)
    error = refused(capsys, 32, "--profile", "1", path)
    assert "PCR 12 does not begin with zeros in a profile other than the first" in error
    assert "PCR 4, " in said(capsys, "--pcr", "4", "--profile", "1", path)


@pytest.mark.parametrize(
    ("pcr", "arguments", "code", "message"),
    [
        (None, [], 32, "its initrd measures the root into no PCR, expected [measure] pcr in its"),
        ("11", [], 32, "its root goes into PCR 11, beside what systemd measures"),
        ("11", ["--pcr", "11"], 32, "its root goes into PCR 11"),
        ("8", ["--pcr", "15"], 32, "its initrd measures the root into PCR 8, expected PCR 15"),
        ("11", ["--pcr", "4", "--pcr", "11"], 32, "its root goes into PCR 11"),
        ("15", ["--pcr", "15", "--pcr", "8"], 1, "--pcr: the root in two PCRs, 15 and 8"),
        ("15", ["--pcr", "4", "--phase", ":"], 1, "--phase: given, and PCR 11 is not predicted"),
        ("15", ["--pcr", "15", "--phase", ":"], 1, "--phase: given, and PCR 11 is not"),
        ("15", ["--pcr", "11", "--loader", "x"], 1, "--loader: given, and PCR 4 is not"),
        ("15", ["--pcr", "15", "--secure-boot", "no"], 1, "--secure-boot: given, and PCR 4 is not"),
        ("15", ["--pcr", "15", "--os-separator"], 1, "--os-separator: given, and PCR 4 is not"),
        ("15", ["--pcr", "4", "--digest", ONE.hex], 1, "--digest: given, and the PCR of the root"),
        ("15", ["--pcr", "11", "--source", "uki"], 1, "--source: given, and the PCR of the root"),
        ("15", ["--pcr", "4", "--soft-reboot", "x"], 1, "--soft-reboot: given, and the PCR of"),
        ("15", ["--digest", TWO.hex], 32, f"names another image, {ONE}, expected {TWO}"),
        ("15", ["--digest", "x"], 1, "--digest: "),
        ("15", ["--soft-reboot", "x"], 1, "--soft-reboot: "),
        ("15", ["--format", "cryptenroll"], 1, "--phase: given 0 times, expected one"),
        ("15", ["--format", "cryptenroll", "--phase", "a", "--phase", "b"], 1, "given 2 times"),
        ("15", ["--format", "tpm2-tools", "--bank", "sha1", "--bank", "sha256"], 1, "2 banks"),
        ("15", ["--loader", "/nowhere"], 2, "/nowhere"),
        ("15", ["--bank", "md5"], 1, "--bank"),
        ("15", ["--pcr", "7"], 1, "--pcr"),
        ("15", ["--json", "--format", "pcrlock"], 1, "not allowed with"),
    ],
)
def test_refusals(
    tmp_path: Path, capsys: Capture, pcr: str | None, arguments: list[str], code: int, message: str
) -> None:
    path = write(tmp_path / "a", initrd(pcr, ONE))
    assert message in refused(capsys, code, *arguments, path)


@pytest.mark.parametrize(
    "named",
    [(".cfsdig", format_digests([TWO])), (".cmdline", f"composefs={TWO.hex}".encode())],
    ids=["section", "command line"],
)
def test_a_soft_reboot_into_the_image_of_a_uki_without_a_copy_in_its_initrd(
    uki: str, tmp_path: Path, capsys: Capture, named: tuple[str, bytes]
) -> None:
    empty = (".initrd", write_cpio([]))
    other = write(tmp_path / "other.efi", STUB, empty, named)
    text = said(capsys, "--format", "tpm2-tools", "--pcr", "15", "--soft-reboot", other, uki)
    assert text == f"sha256:15={value(text_of(ONE), text_of(TWO, 'soft-reboot'))}\n"


def test_a_soft_reboot_into_one_of_two_images(uki: str, tmp_path: Path, capsys: Capture) -> None:
    other = write(tmp_path / "a", initrd(None, ONE, TWO))
    error = refused(capsys, 32, "--soft-reboot", other, uki)
    assert "names 2 images, expected one, or its digest for --soft-reboot" in error


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (["--pcr", "15"], True),
        (["--pcr", "15", "--format", "cryptenroll"], True),
        (["--pcr", "15", "--format", "tpm2-tools"], True),
        (["--pcr", "15", "--json"], True),
        (["--pcr", "15", "--format", "pcrlock"], False),  # it is one of several components
        (["--pcr", "15", "--pcr", "4"], False),
        (["--pcr", "15", "--pcr", "11"], False),
        (["--pcr", "4"], False),
        ([], False),
    ],
)
def test_the_pcr_of_the_root_alone_is_warned_of(
    uki: str, capsys: Capture, arguments: list[str], warned: bool
) -> None:
    assert main(["predict", *arguments, uki]) == 0
    assert ("warning: PCR 15 alone proves nothing" in capsys.readouterr().err) == warned


def test_4_alone_where_the_root_goes_into_11(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "a", initrd("11", ONE))
    [four] = json.loads(said(capsys, "--json", "--pcr", "4", path))["pcrs"]
    assert four["pcr"] == 4


def test_4_and_11_alone_need_no_root(tmp_path: Path, capsys: Capture) -> None:
    for path in (
        write(tmp_path / "a", initrd(None, ONE)),
        write(tmp_path / "b", OPAQUE),
    ):
        about = json.loads(said(capsys, "--json", "--pcr", "11", "--pcr", "4", path))
        assert [each["pcr"] for each in about["pcrs"]] == [4, 11]
