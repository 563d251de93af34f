# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Commands of a TPM and its answers. What a real one makes of them: tests/vm/test_pcr.py."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.machine import tpm_message
from pyinit.initrd.machine.tpm_message import ALGORITHMS, TpmError

ALL = b"\xff\xff\xff"


def answer(tag: int, body: bytes, code: int = 0) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def capability(*banks: tuple[int, bytes], more: int = 0, what: int = 5) -> bytes:
    body = struct.pack(">BII", more, what, len(banks))
    for number, selected in banks:
        body += struct.pack(">HB", number, len(selected)) + selected
    return answer(0x8001, body)


def test_the_commands_to_the_byte() -> None:
    """By the specification; the second one as it was sent to a TPM (uki.md has it in words)."""
    assert tpm_message.banks_command().hex() == "8001000000160000017a000000050000000000000001"
    values = {"sha256": b"\xab" * 32}
    assert tpm_message.extend_command(15, values).hex() == (
        "8002000000410000" + "01820000000f000000094000000900000000000000" + "0001000b" + "ab" * 32
    )
    both = tpm_message.extend_command(8, {"sha1": bytes(20), "sha384": bytes(48)})
    assert struct.unpack(">HIII", both[:14]) == (0x8002, len(both), 0x182, 8)
    assert both[27:] == b"\0\0\0\2\0\4" + bytes(20) + b"\0\x0c" + bytes(48)


def test_banks_are_those_that_have_the_pcr() -> None:
    some = capability((4, ALL), (0xB, b"\x00\x80\x00"), (0xC, b"\0\0\0"), (0xD, b""), (0x12, b"\1"))
    assert tpm_message.banks(some, 15) == ["sha1", "sha256"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (capability((4, ALL)), "a bank of SHA-1 alone"),
        (capability(), "no bank has this PCR"),
        (capability((0xB, b"\xff\x7f\xff")), "no bank has this PCR"),
        # all banks or none: one that would stay as it was could be shown in place of the others
        (capability((0xB, ALL), (0x12, ALL)), "a bank of the algorithm 0x0012, which is not"),
        (capability((0xB, ALL), (0x10B, ALL)), "a bank of the algorithm 0x010b, which is not"),
        (capability((0xB, ALL), (0xB, ALL)), "a malformed answer"),
        (capability((0xB, ALL), more=1), "a malformed answer"),
        (capability((0xB, ALL), what=6), "a malformed answer"),
        (capability((0xB, ALL))[:-1], "cut or too long"),
        (capability((0xB, ALL)) + b"\0", "cut or too long"),
        (answer(0x8001, struct.pack(">BII", 0, 5, 0xFFFFFFFF)), "a malformed answer"),
        (answer(0x8001, struct.pack(">BII", 0, 5, 2) + b"\0\x0b\3" + ALL), "a malformed answer"),
        (answer(0x8001, struct.pack(">BII", 0, 5, 1) + b"\0\x0b\3" + ALL + b"\0"), "a malformed"),
        (answer(0x8001, struct.pack(">BII", 0, 5, 1) + b"\0\x0b\xff" + ALL), "a malformed answer"),
        (answer(0x8001, b""), "a malformed answer"),
        (answer(0x8002, struct.pack(">BII", 0, 5, 0)), "a malformed answer"),
        (answer(0x8001, b"", 0x100), "it answers TPM_RC_INITIALIZE: the firmware has not started"),
        (answer(0x8001, b"", 0x1C4), "it answers 0x1c4"),
        (b"", "an answer of 0 bytes that is cut or too long"),
    ],
)
def test_banks_that_cannot_all_be_extended(given: bytes, said: str) -> None:
    with pytest.raises(TpmError, match=said):
        tpm_message.banks(given, 15)


def test_extended() -> None:
    tpm_message.extended(bytes.fromhex("80020000001300000000" + "00000000" + "0000010000"))
    tpm_message.extended(bytes.fromhex("80020000001300000000" + "00000000" + "0000000000"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer(0x8002, bytes(9), 0x907), "TPM2_PCR_Extend: it answers TPM_RC_LOCALITY"),
        (answer(0x8001, b"", 0x921), "TPM2_PCR_Extend: it answers TPM_RC_LOCKOUT: it is locked"),
        (answer(0x8001, bytes(9)), "a malformed answer"),
        (answer(0x8002, bytes(8)), "a malformed answer"),
        (answer(0x8002, b"\0\0\0\1" + bytes(5)), "a malformed answer"),
        (answer(0x8002, b""), "a malformed answer"),
        (capability((0xB, ALL)), "a malformed answer"),  # of the other command
        (b"\x80\x02\0\0\0\x13\0\0", "cut or too long"),
    ],
)
def test_what_does_not_say_that_it_was_extended(given: bytes, said: str) -> None:
    with pytest.raises(TpmError, match=said):
        tpm_message.extended(given)


ANY = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=8), max_size=6)


@given(ANY, st.integers(8, 15))
def test_any_banks(banks: dict[int, bytes], pcr: int) -> None:
    has = {
        number for number, selected in banks.items()
        if int.from_bytes(selected, "little") >> pcr & 1
    }  # fmt: skip
    data = capability(*banks.items())
    if has <= set(ALGORITHMS.values()) and has - {4}:
        found = tpm_message.banks(data, pcr)
        assert {ALGORITHMS[name] for name in found} == has
    else:
        with pytest.raises(TpmError):
            tpm_message.banks(data, pcr)


def test_digests_are_those_of_the_banks() -> None:
    found = tpm_message.digests(list(ALGORITHMS), b"abc")
    assert found == {name: hashlib.new(name, b"abc").digest() for name in ALGORITHMS}
