# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import utf16


@given(st.binary(max_size=40))
def test_as_the_codec_of_the_standard_library(data: bytes) -> None:
    try:
        expected = data.decode("utf-16-le")
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match=r"surrogate|not UTF-16"):
            utf16.decode(data)
    else:
        assert utf16.decode(data) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x3d\xd8", "lone surrogate 0xd83d"),
        (b"\x3d\xd8a\0", "lone surrogate 0xd83d"),
        (b"\x3d\xd8\x3d\xd8", "lone surrogate 0xd83d"),
        (b"a\0\x00\xde", "lone surrogate 0xde00"),
        (b"a\0b", "3 bytes: not UTF-16"),
    ],
)
def test_what_is_no_text(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        utf16.decode(data)


def test_pairs_of_surrogates() -> None:
    text = "a\U0001f600\U0010ffff\U00010000b"
    assert utf16.decode(text.encode("utf-16-le")) == text
