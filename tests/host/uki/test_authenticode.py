# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Authenticode hashes: against those that a signature holds, and against the bytes themselves."""

import _cfs
import hashlib
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.uki.authenticode import digests
from pyinit.initrd.machine.tpm_message import ALGORITHMS
from pyinit.initrd.report.errors import Refused
from tests.core import event_log
from tests.core.pe_builder import (
    Section,
    build,
    with_certificates,
    with_directories,
    with_field,
    with_section,
)
from tests.host.conftest import Signer, UkiParts

BANKS = ("sha1", "sha256", "sha384", "sha512")
SECTIONS = [Section(b".text", b"code" * 300), Section(b".linux", b"kernel")]
CHECKSUM = 0x80 + 24 + 64  # of what `build` makes
ENTRY = 0x80 + 24 + 112 + 8 * 4


def sha256(data: bytes) -> bytes:
    return digests(data, ["sha256"], "x")["sha256"]


@pytest.mark.parametrize("name", ["UKI", "boot loader"])
def test_it_is_what_a_signature_holds(
    uki_parts: UkiParts, plain_uki: Path, signer: Signer, tmp_path: Path, name: str
) -> None:
    loader = uki_parts.toolbox.path("usr/lib/systemd/boot/efi/systemd-bootx64.efi")
    plain = plain_uki if name == "UKI" else loader
    signed = signer.sign(plain, tmp_path / "signed.efi").read_bytes()
    (offset,) = struct.unpack_from("<I", signed, pe_entry(signed))
    assert sha256(signed) in signed[offset:]
    assert sha256(plain.read_bytes()) == sha256(signed)


def pe_entry(data: bytes) -> int:
    (start,) = struct.unpack_from("<I", data, 60)
    return int(start) + 24 + 112 + 8 * 4


@given(st.lists(st.binary(max_size=1500), min_size=1, max_size=4), st.binary(max_size=20))
def test_all_but_three_places_is_hashed(contents: list[bytes], tail: bytes) -> None:
    sections = [Section(b".%d" % index, content) for index, content in enumerate(contents)]
    data = build(sections) + tail
    rest = data[:CHECKSUM] + data[CHECKSUM + 4 : ENTRY] + data[ENTRY + 8 :]
    assert digests(data, BANKS, "x") == {bank: hashlib.new(bank, rest).digest() for bank in BANKS}


@given(
    st.lists(st.binary(max_size=1500), min_size=1, max_size=4),
    st.binary(max_size=20),
    st.sampled_from([b"", b"c" * 8, b"c" * 512]),
)
def test_what_the_boot_takes_for_a_uki_has_the_same_hash_there(
    contents: list[bytes], tail: bytes, certificates: bytes
) -> None:
    """There are two readers: the initrd's is stricter and reads each byte once, this one takes what
    firmware takes. A prediction that the boot does not agree with would be worth nothing."""
    sections = [Section(b".text", bytes(1024))]
    sections += [Section(b".%d" % index, content) for index, content in enumerate(contents)]
    data = build(sections, certificates=certificates) if certificates else build(sections) + tail
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        for bank in BANKS[1:]:
            number = ALGORITHMS[bank]
            log = event_log.build([], [number])
            found = _cfs.uki_prove(file.fileno(), _cfs.PE_BASE, number, log)[2]
            assert digests(data, [bank], "x") == {bank: found}


def test_signing_and_the_checksum_change_nothing() -> None:
    plain = build(SECTIONS)
    for other in (build(SECTIONS, certificates=b"c" * 16), with_field(plain, "CheckSum", 7)):
        assert other != plain
        assert sha256(other) == sha256(plain)
    assert sha256(with_field(plain, "SizeOfImage", 7)) != sha256(plain)


def test_sections_are_hashed_in_the_order_of_their_data() -> None:
    one, two = SECTIONS
    plain = build(SECTIONS)
    size = 512
    first, second = len(plain) - 4 * size, len(plain) - size
    swapped = with_section(
        with_section(plain, 0, PointerToRawData=second, SizeOfRawData=size),
        1, PointerToRawData=first, SizeOfRawData=3 * size,
    )  # fmt: skip
    rest = swapped[:CHECKSUM] + swapped[CHECKSUM + 4 : ENTRY] + swapped[ENTRY + 8 :]
    assert sha256(swapped) == hashlib.sha256(rest).digest()
    assert len(one.data) > 2 * size > len(two.data)


def test_a_file_with_four_directories_has_no_certificates() -> None:
    data = build(SECTIONS, directories=4)
    rest = data[:CHECKSUM] + data[CHECKSUM + 4 :]
    assert sha256(data) == hashlib.sha256(rest).digest()


@pytest.mark.parametrize("plus", [True, False])
def test_both_kinds_of_headers(plus: bool) -> None:
    data = build(SECTIONS, plus=plus)
    entry = ENTRY if plus else ENTRY - 16
    rest = data[:CHECKSUM] + data[CHECKSUM + 4 : entry] + data[entry + 8 :]
    assert sha256(data) == hashlib.sha256(rest).digest()


PLAIN = build(SECTIONS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ",
        PLAIN[:200],
        PLAIN[:-1],
        b"NZ" + PLAIN[2:],
        with_field(PLAIN, "Signature", 0),
        with_field(PLAIN, "Magic", 0x107),
        with_field(PLAIN, "e_lfanew", len(PLAIN)),
        with_field(PLAIN, "e_lfanew", 0xFFFFFFFF),
        with_field(PLAIN, "SizeOfHeaders", 0x100),  # before the end of the table
        with_field(PLAIN, "SizeOfHeaders", len(PLAIN) + 1),
        with_field(PLAIN, "SizeOfOptionalHeader", 0),  # the table before the directories
        with_field(PLAIN, "NumberOfSections", 0xFFFF),
        with_section(PLAIN, 0, SizeOfRawData=len(PLAIN)),
        with_section(PLAIN, 1, PointerToRawData=0xFFFFFFFF),
        with_section(PLAIN, 1, PointerToRawData=len(PLAIN) - 100),
        # the table among the directories, where there are zeros
        with_field(with_field(PLAIN, "SizeOfOptionalHeader", 112), "NumberOfSections", 1),
        with_certificates(PLAIN, 0, 1),
    ],
    ids=range(18),
)
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match=r"the place: not a whole PE file, expected an EFI"):
        digests(data, BANKS, "the place")


def test_directories_that_are_not_there_are_not_read() -> None:
    assert sha256(with_directories(PLAIN, 4)) != sha256(PLAIN)
