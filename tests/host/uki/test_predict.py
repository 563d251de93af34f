# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What PCRs will hold: by hashlib, step by step. By firmware and stub: tests/vm/test_predict.py."""

import _cfs
import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from pyinit.host.uki import authenticode, predict
from pyinit.host.uki.predict import BANKS
from pyinit.host.uki.read import Uki
from pyinit.initrd.handover import pcr
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.config import Config
from tests.core.pe_builder import Section, build
from tests.host.uki.test_pe_write import Image

ONE, TWO = Digest(_cfs.SHA256, bytes(range(32))), Digest(_cfs.SHA512, bytes(range(64)))
KERNEL = build([Section(b".setup", b"setup"), Section(b".text", b"kernel" * 100)])
BASE = _cfs.PE_BASE


def stub(version: str) -> tuple[str, bytes]:
    return (".sdmagic", f"#### LoaderInfo: systemd-stub {version} ####".encode())


def write(path: Path, *sections: tuple[str, bytes]) -> Uki:
    path.write_bytes(Image([(".text", b"code"), *sections]).build())
    return Uki(path)


def chain(bank: str, digests: Sequence[bytes]) -> bytes:
    value = bytes(hashlib.new(bank).digest_size)
    for digest in digests:
        value = hashlib.new(bank, value + digest).digest()
    return value


def hashed(bank: str, texts: Sequence[bytes]) -> bytes:
    return chain(bank, [hashlib.new(bank, text).digest() for text in texts])


def last(found: predict.Prediction) -> dict[str, bytes]:
    return found.moments[-1].values


# ---- PCR 11


def test_sections_in_the_order_of_the_stub(tmp_path: Path) -> None:
    """Each by its name with a NUL, and its content without padding; no others."""
    uki = write(
        tmp_path / "a", (".cfsdig", b"digest"), (".pcrsig", b"signature"), (".initrd", b"initrd"),
        (".linux", KERNEL), (".sbat", b"sbat"), (".pcrpkey", b"key"), (".osrel", b"release"),
    )  # fmt: skip
    measured = [
        b".linux\0", KERNEL, b".osrel\0", b"release", b".initrd\0", b"initrd", b".sbat\0", b"sbat",
        b".pcrpkey\0", b"key",
    ]  # fmt: skip
    found = predict.sections(uki, BANKS, profile=BASE, phases=[(), ("enter-initrd", "two")])
    assert [moment.after for moment in found.moments] == ["the stub", "enter-initrd:two"]
    for bank in BANKS:
        assert found.moments[0].values[bank] == hashed(bank, measured)
        assert found.moments[1].values[bank] == hashed(bank, [*measured, b"enter-initrd", b"two"])


def test_a_profile_has_its_own_sections_in_place_of_the_base_s(tmp_path: Path) -> None:
    uki = write(
        tmp_path / "a", (".linux", b"kernel"), (".cmdline", b"base"), (".profile", b"ID=a"),
        (".profile", b"ID=b"), (".cmdline", b"own"),
    )  # fmt: skip
    for profile, line in ((0, b"base"), (1, b"own")):
        found = predict.sections(uki, ["sha256"], profile=profile, phases=[()])
        identity = (b"ID=a", b"ID=b")[profile]
        measured = [b".linux\0", b"kernel", b".cmdline\0", line, b".profile\0", identity]
        assert last(found)["sha256"] == hashed("sha256", measured)


ADDED = [(".ucode", 256), (".uname", 254), (".sbat", 254), (".profile", 257), (".hwids", 257)]


@pytest.mark.parametrize(
    "version", ["252.39-1~deb12u2", "253", "254.26", "255.4", "256", "257", "263"]
)
def test_a_stub_measures_what_its_version_knows(tmp_path: Path, version: str) -> None:
    """By the names in the stubs of Debian 12 (252), its backports (254), Debian 13 (257)."""
    number = int(version[:3])
    more = [(name, name.encode()) for name, _ in ADDED]
    uki = write(tmp_path / "a", (".linux", b"kernel"), stub(version), *more)
    profile = 0 if number >= 257 else BASE
    found = predict.sections(uki, ["sha256"], profile=profile, phases=[()])
    names = [event.what for event in found.events[1::2]]
    assert names == [".linux", *(name for name, since in ADDED if since <= number)]


@pytest.mark.parametrize(("version", "refused"), [("257", True), ("256", False)])
def test_a_stub_that_does_not_know_trees_of_machines(
    tmp_path: Path, version: str, refused: bool
) -> None:
    uki = write(tmp_path / "a", (".linux", b"kernel"), stub(version), (".dtbauto", b"one"))
    with pytest.raises(Refused, match=r"the machine decides") if refused else nullcontext():
        predict.sections(uki, BANKS, profile=BASE, phases=[()])


def test_a_stub_that_measures_no_section(tmp_path: Path) -> None:
    uki = write(tmp_path / "a", (".linux", b"kernel"), stub("251.4"))
    with pytest.raises(Refused, match=r"its stub, systemd 251, measures no section into PCR 11"):
        predict.sections(uki, BANKS, profile=BASE, phases=[()])


def test_a_stub_that_knows_no_profiles(tmp_path: Path) -> None:
    sections = [(".linux", b"kernel"), (".profile", b"ID=a")]
    old = write(tmp_path / "a", stub("256.1"), *sections)
    predict.check_profile(old, BASE)
    with pytest.raises(Refused, match=r"its stub, systemd 256, knows no profiles, expected 257 or"):
        predict.check_profile(old, 0)
    for more in ([], [stub("257")]):
        predict.check_profile(write(tmp_path / "b", *more, *sections), 0)


def test_a_profile_without_a_kernel(tmp_path: Path) -> None:
    """The one of another profile makes it a UKI."""
    uki = write(
        tmp_path / "a", stub("257"), (".profile", b"ID=a"), (".profile", b"ID=b"),
        (".linux", KERNEL),
    )  # fmt: skip
    message = r"no \.linux section for profile 0, expected a profile with a kernel"
    with pytest.raises(Refused, match=message):
        predict.check_profile(uki, 0)
    with pytest.raises(Refused, match=message):
        predict.sections(uki, BANKS, profile=0, phases=[()])
    with pytest.raises(Refused, match=message):
        predict.boot_loader(uki, [], BANKS, profile=0, secure_boot=False, os_separator=False)
    predict.check_profile(uki, 1)


@pytest.mark.parametrize("name", [".dtbauto", ".efifw"])
def test_what_the_machine_chooses_is_not_predicted(tmp_path: Path, name: str) -> None:
    uki = write(tmp_path / "a", (".linux", b"kernel"), (name, b"one"), (name, b"two"))
    with pytest.raises(Refused, match=rf"section {name}: the machine decides"):
        predict.sections(uki, BANKS, profile=BASE, phases=[()])


# ---- PCR 4


@pytest.mark.parametrize(
    ("version", "secure_boot", "measured"),
    [
        ("251", False, False),
        ("252.1-2", False, True),
        ("257.13-1~deb13u1", False, True),
        ("257.13-1~deb13u1", True, False),
        ("258", False, False),
        ("262-1", True, False),
    ],
)
def test_firmware_boot_loaders_uki_kernel(
    tmp_path: Path, version: str, secure_boot: bool, measured: bool
) -> None:
    uki = write(tmp_path / "a", (".linux", KERNEL), stub(version))
    assert predict.stub(uki) == (version, int(version[:3]))
    loaders = [tmp_path / "shim", tmp_path / "menu"]
    for path in loaders:
        path.write_bytes(build([Section(b".text", path.name.encode())]))
    found = predict.boot_loader(
        uki, loaders, BANKS, profile=BASE, secure_boot=secure_boot, os_separator=False
    )
    assert len(found.moments) == 1
    files = [*(path.read_bytes() for path in loaders), uki.data] + [KERNEL] * measured
    for bank in BANKS:
        events = [
            hashlib.new(bank, b"Calling EFI Application from Boot Option").digest(),
            hashlib.new(bank, bytes(4)).digest(),
            *(authenticode.digests(data, [bank], "")[bank] for data in files),
        ]
        assert last(found)[bank] == chain(bank, events)


def test_the_separator_of_systemd(tmp_path: Path) -> None:
    """What systemd's own 750-os-separator.pcrlock has."""
    uki = write(tmp_path / "a", (".linux", KERNEL))
    assert predict.stub(uki) is None
    found = predict.boot_loader(
        uki, [], ["sha256"], profile=BASE, secure_boot=False, os_separator=True
    )
    assert [moment.after for moment in found.moments] == ["the kernel", "os-separator"]
    assert found.events[-1].digests["sha256"].hex() == (
        "ff5b9d73dad709633ae76adf444012b57e913a12ed7403c3931145862f35f841"
    )
    before = found.moments[0].values["sha256"]
    assert last(found)["sha256"] == hashlib.sha256(
        before + found.events[-1].digests["sha256"]
    ).digest()  # fmt: skip


def test_a_kernel_that_is_no_program_of_firmware(tmp_path: Path) -> None:
    uki = write(tmp_path / "a", (".linux", b"kernel"), stub("257"))
    with pytest.raises(Refused, match=r"/a: \.linux: not a whole PE file"):
        predict.boot_loader(uki, [], BANKS, profile=BASE, secure_boot=False, os_separator=False)


# ---- the root's


@pytest.mark.parametrize(("image", "source"), [(ONE, "carried"), (TWO, "cmdline")])
def test_the_text_is_that_of_the_initrd(
    monkeypatch: pytest.MonkeyPatch, image: Digest, source: str
) -> None:
    said: list[str] = []

    def extend(_: int, text: str) -> dict[str, bytes]:
        said.append(text)
        return {}

    monkeypatch.setattr(pcr, "extend", extend)
    settings = Config()
    settings.measure_pcr = "15"
    pcr.measure(settings, image, source)
    found = predict.root(15, image, source, BANKS)
    assert (found.pcr, found.image) == (15, image)
    for bank in BANKS:
        assert last(found)[bank] == hashed(bank, [said[0].encode()])


def test_soft_reboots_extend_it_further() -> None:
    texts = [
        f"composefs:/:sha256:{ONE.hex}:carried", f"composefs:/:sha512:{TWO.hex}:soft-reboot",
        f"composefs:/:sha256:{ONE.hex}:soft-reboot",
    ]  # fmt: skip
    found = predict.root(8, ONE, "carried", BANKS, [TWO, ONE])
    assert [moment.after for moment in found.moments] == [
        "the root", "soft reboot 1", "soft reboot 2",
    ]  # fmt: skip
    for count, moment in enumerate(found.moments, 1):
        for bank in BANKS:
            assert moment.values[bank] == hashed(bank, [text.encode() for text in texts[:count]])
