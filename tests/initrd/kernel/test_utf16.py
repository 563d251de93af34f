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
        with pytest.raises(ValueError, match=r"surrogate|no UTF-16"):
            utf16.decode(data)
    else:
        assert utf16.decode(data) == expected
