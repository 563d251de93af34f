# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.source import efivar

VOLATILE = (6).to_bytes(4, "little")


def encoded(text: str) -> bytes:
    return VOLATILE + text.encode("utf-16-le") + b"\0\0"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_text_is_what_python_encodes(text: str) -> None:
    assert efivar.text(encoded(text)) == text


def test_the_stubs_values() -> None:
    assert efivar.text(encoded("\\EFI\\BOOT\\BOOTX64.EFI")) == "\\EFI\\BOOT\\BOOTX64.EFI"
    assert efivar.text(encoded("")) == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "shorter than its attributes"),
        (b"\6\0\0", "shorter than its attributes"),
        (VOLATILE, "no NUL at the end"),
        (VOLATILE + b"a\0", "no NUL at the end"),
        (VOLATILE + b"a\0\0", "not UTF-16"),
        (VOLATILE + b"a\0b", "not UTF-16"),
        (VOLATILE + b"a\0\0\0\0\0", "NUL in the middle"),
        (VOLATILE + b"a\0\0\0b\0\0\0", "NUL in the middle"),
        (VOLATILE + b"\0\xd8\0\0", "lone surrogate 0xd800"),
        (VOLATILE + b"\0\xdc\0\0", "lone surrogate 0xdc00"),
        (VOLATILE + b"\0\xd8\0\xd8\0\xdc\0\0", "lone surrogate 0xd800"),
        (VOLATILE + b"\0\xd8a\0\0\0", "lone surrogate"),
        (b"\7\0\0\0a\0\0\0", "attributes 0x7, not 0x6"),  # non-volatile: planted, or stale
        (b"\2\0\0\0a\0\0\0", "attributes 0x2"),
        (b"\6\0\0\1a\0\0\0", "attributes 0x1000006"),
        (b"\0\0\0\6a\0\0\0", "attributes 0x6000000"),
    ],
)
def test_what_is_no_text(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        efivar.text(data)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: VOLATILE + data))
def test_any_bytes(data: bytes) -> None:
    try:
        assert encoded(efivar.text(data)) == data
    except ValueError:
        pass


def test_secure_boot() -> None:
    assert efivar.secure_boot(VOLATILE + b"\1") is True
    assert efivar.secure_boot(VOLATILE + b"\0") is False
    for wrong in (b"", VOLATILE, VOLATILE + b"\2", VOLATILE + b"\1\0", b"\7\0\0\0\1"):
        with pytest.raises(ValueError, match=r"byte|attributes"):
            efivar.secure_boot(wrong)
