# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The table that is read of anything: the same rows as the strict reader has, and of any bytes no
error."""

from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.uki import peek
from tests.core.pe_builder import with_field
from tests.host.uki.test_pe_write import Image

ROWS = [(".text", b"code"), (".linux", b"kernel"), ("/4", b"debug")]


def test_the_rows() -> None:
    data = Image(ROWS).build()
    rows = peek.sections(data)
    assert rows is not None
    assert [(row.name, row.size) for row in rows] == [(name, len(text)) for name, text in ROWS]
    for row, (_, text) in zip(rows, ROWS, strict=True):
        assert data[row.offset : row.offset + row.size] == text


def test_what_is_no_table() -> None:
    data = Image(ROWS).build()
    assert peek.sections(b"") is None
    assert peek.sections(b"ELF" + data[3:]) is None
    assert peek.sections(data[:0x3C]) is None
    assert peek.sections(with_field(data, "e_lfanew", 0)) is None
    assert peek.sections(with_field(data, "e_lfanew", len(data) - 8)) is None
    assert peek.sections(with_field(data, "NumberOfSections", 0xFFFF)) is None


@given(st.binary(max_size=200), st.integers(0, 0xFFFFFFFF))
def test_any_bytes(data: bytes, start: int) -> None:
    peek.sections(data)
    peek.sections(b"MZ" + data[2:0x3C].ljust(0x3A) + start.to_bytes(4, "little") + data[0x40:])
