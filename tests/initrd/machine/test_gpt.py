# SPDX-License-Identifier: Apache-2.0 OR MIT
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.machine import gpt
from tests.initrd import partition_tables as make

A = "11111111-2222-3333-4444-555555555555"
B = "abcdef01-2345-6789-abcd-ef0123456789"
ROWS: list[make.Row] = [(1, make.ESP, A, 6, 99), (3, B, B, 100, 9000)]
FOUND = [(1, A, 6), (3, B, 100)]


def read(disk: bytes, sector: int = 512) -> list[tuple[int, str, int]]:
    header = gpt.header(disk[: 2 * sector], sector)
    end = header.offset + header.count * header.entry_size
    found = gpt.entries(header, disk[header.offset : end])
    return [(e.index, e.part_guid, e.first) for e in found]


@given(st.uuids())
def test_guids_are_mixed_endian(value: uuid.UUID) -> None:
    assert gpt.guid(value.bytes_le) == str(value)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("size", [128, 136, 256, 512])
@pytest.mark.parametrize("count", [4, 128, 256])
def test_entries(sector: int, size: int, count: int) -> None:
    assert read(bytes(make.gpt(ROWS, sector, count, size)), sector) == FOUND


def test_type_and_attributes() -> None:
    disk = bytes(make.gpt([(1, make.ESP, A, 6, 99), (2, B, A, 100, 101, 1 << 63 | 5)]))
    found = gpt.entries(gpt.header(disk[:1024], 512), disk[1024:])
    assert [(e.kind, e.attributes) for e in found] == [(make.ESP, 0), (B, 1 << 63 | 5)]
    [primary] = gpt.mbr(make.mbr([(0x83, 1, 9)]))
    assert (primary.kind, primary.attributes) == ("", 0)


def test_entries_outside_the_usable_sectors_are_left_out() -> None:
    below, above, good = (1, B, A, 5, 99), (2, B, A, 100, 9001), (4, B, B, 100, 101)
    assert read(bytes(make.gpt([below, above, good]))) == [(4, B, 100)]
    assert read(bytes(make.gpt([(3, B, A, 100, 99)]))) == []


def test_an_unused_entry_is_none_whatever_else_it_says() -> None:
    unused = (1, "00000000-0000-0000-0000-000000000000", A, 6, 99)
    assert read(bytes(make.gpt([unused, (2, B, B, 100, 101)]))) == [(2, B, 100)]


def change(at: int, value: bytes) -> bytes:
    disk = make.gpt(ROWS)
    disk[at : at + len(value)] = value
    return bytes(disk)


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (b"", "ends before"),
        (change(0, b"")[:603], "ends before"),
        (change(510, b"\0"), "no protective MBR"),
        (change(450, b"\x83"), "no protective MBR"),
        (change(512, b"efi"), "no GPT signature"),
        (change(520, b"\1"), "revision 0x10001"),
        (change(524, b"\x5b"), "header of 91 bytes"),
        (change(524, b"\x01\x02"), "header of 513 bytes"),
        (change(536, b"\2"), "at LBA 2"),
        (change(584, b"\1"), "entries at LBA 1"),
        (change(584, b"\xff" * 8), "entries at LBA"),
        (change(552, b"\xff\xff"), "usable are"),
        (change(560, b"\xff" * 8), "usable are"),
        (change(592, b"\x01\x01"), "257 GPT entries"),
        (change(592, b"\xff" * 4), "GPT entries"),
        (change(596, b"\0"), "entries of 0 bytes"),
        (change(596, b"\x78"), "entries of 120 bytes"),
        (change(596, b"\x84"), "entries of 132 bytes"),
        (change(596, b"\x08\x02"), "entries of 520 bytes"),
        (change(0, b"")[:-1], "before its GPT entries"),
    ],
)
def test_each_rule(disk: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(disk)


def test_other_sector_sizes() -> None:
    for sector in (0, 1, 513, 2048, 1 << 40):
        with pytest.raises(ValueError, match="sectors of"):
            gpt.header(bytes(make.gpt(ROWS)), sector)


def test_mbr_uuids() -> None:
    data = make.mbr([(0x83, 2048, 100), (0, 5, 5), (0x0C, 4096, 200), (0x83, 1, 0)], 0xDEADBEEF)
    found = [(e.index, e.part_guid, e.first) for e in gpt.mbr(data)]
    assert found == [(1, "deadbeef-01", 2048), (3, "deadbeef-03", 4096)]
    assert not gpt.is_gpt(data)
    assert gpt.mbr(data[:-1] + b"\0") == []
    assert gpt.mbr(data[:100]) == []


def test_a_hybrid_mbr_is_a_gpt() -> None:
    assert gpt.is_gpt(make.mbr([(0x83, 2048, 100), (0xEE, 1, 100)]))


# By sector: the MBR is 0, EBRs are the others. A row: type, first sector, sectors; as they stand
# there, which is counted from the EBR for a partition, and from the first EBR for the next EBR.
Chain = dict[int, list[tuple[int, int, int]]]
DATA, NEXT = 0x83, 0x05


def logical(chain: Chain, broken: int = -1) -> list[tuple[int, str, int]]:
    """Those found; the EBR at `broken` has no mark at its end."""
    data = make.mbr(chain[0], 0xDEADBEEF)

    def read(number: int) -> bytes:
        sector = make.mbr(chain[number]) if number in chain else b""
        return sector[:-1] if number == broken else sector

    return [(e.index, e.part_guid, e.first) for e in gpt.logical(data, read)]


TWO: Chain = {
    0: [(DATA, 1, 9), (NEXT, 100, 1000)],
    100: [(DATA, 10, 90), (NEXT, 200, 300)],
    300: [(DATA, 20, 280), (NEXT, 500, 100)],
    600: [(DATA, 1, 9)],
}


def test_logical_partitions() -> None:
    expected = [
        (5, "deadbeef-05", 110), (6, "deadbeef-06", 320), (7, "deadbeef-07", 601),
    ]  # fmt: skip
    assert logical(TWO) == expected
    for kind in (0x0F, 0x85):
        assert (
            logical({**TWO, 0: [(kind, 100, 1000)], 300: [TWO[300][0], (kind, 500, 1)]}) == expected
        )
    # Its end, too: an EBR without its mark, and one behind the end of the disk.
    assert logical(TWO, 300) == expected[:1]
    assert logical({**TWO, 100: [(DATA, 10, 90), (NEXT, 5000, 9)]}) == expected[:1]
    assert logical(TWO, 100) == logical({0: [(DATA, 1, 9)]}) == logical({0: [(NEXT, 100, 0)]}) == []


def test_an_ebr_with_nothing_but_the_next() -> None:
    assert logical({**TWO, 100: [(0, 0, 0), (NEXT, 200, 300)]}) == [
        (5, "deadbeef-05", 320), (6, "deadbeef-06", 601),
    ]  # fmt: skip
    assert logical({**TWO, 100: [(DATA, 10, 0), (NEXT, 0, 0), (NEXT, 500, 9), (NEXT, 200, 9)]}) == [
        (5, "deadbeef-05", 601),
    ]  # fmt: skip


def test_two_chains() -> None:
    chain: Chain = {**TWO, 0: [(NEXT, 600, 9), (DATA, 1, 9), (NEXT, 100, 200)]}
    chain[100] = TWO[100][:1]
    assert logical(chain) == [(5, "deadbeef-05", 601), (6, "deadbeef-06", 110)]


def test_the_last_two_of_an_ebr_may_be_garbage() -> None:
    """The kernel takes them where they lie inside: of the part that the EBR is of, and of all."""
    rows = [(DATA, 10, 5000), (DATA, 20, 5000), (DATA, 30, 70), (DATA, 31, 70)]
    good = [(5, "deadbeef-05", 110), (6, "deadbeef-06", 120), (7, "deadbeef-07", 130)]
    assert logical({0: [(NEXT, 100, 100)], 100: rows}) == good
    chain: Chain = {0: [(NEXT, 100, 100)], 100: [(NEXT, 50, 1000)]}
    for first, inside in ((30, True), (31, False)):
        chain[150] = [(0, 0, 0), (0, 0, 0), (DATA, first, 20)]
        assert bool(logical(chain)) is inside
    # Within all, and beyond the part that the EBR is of.
    chain = {0: [(NEXT, 100, 1000)], 100: [(NEXT, 50, 20)]}
    for first, inside in ((5, True), (6, False)):
        chain[150] = [(0, 0, 0), (0, 0, 0), (DATA, first, 15)]
        assert bool(logical(chain)) is inside


def test_the_content_of_a_partition_is_no_table() -> None:
    """Who may write a file system could make partitions of it."""
    assert logical({0: [(DATA, 100, 1000)], 100: TWO[100], 300: TWO[300], 600: TWO[600]}) == []


@pytest.mark.parametrize(
    "chain",
    [
        {0: [(NEXT, 100, 9)], 100: [(DATA, 1, 9), (NEXT, 0, 9)]},
        {**TWO, 600: [(DATA, 1, 9), (NEXT, 200, 9)]},
        {**TWO, 0: [(NEXT, 100, 1000), (NEXT, 300, 9)]},
        {0: [(NEXT, 1, 9)], **{n: [(DATA, 1, 9), (NEXT, n, 9)] for n in range(1, 999)}},
    ],
)
def test_a_chain_without_an_end(chain: Chain) -> None:
    with pytest.raises(ValueError, match=r"the chain of extended partitions has no end \(sector"):
        logical(chain)


def test_as_many_ebrs_as_the_kernel_has_numbers_for() -> None:
    chain: Chain = {0: [(NEXT, 1, 9)]}
    chain.update({n: [(NEXT, n, 9)] for n in range(1, 256)})
    chain[256] = [(DATA, 1, 9)]
    assert logical(chain) == [(5, "deadbeef-05", 257)]
    chain[256] = [(NEXT, 256, 9)]
    with pytest.raises(ValueError, match=r"no end \(sector 257\)"):
        logical({**chain, 257: []})


@given(
    st.dictionaries(
        st.integers(0, 9),
        st.lists(
            st.tuples(st.sampled_from([0, DATA, NEXT]), st.integers(0, 9), st.integers(0, 9)),
            max_size=4,
        ),
    )
)
def test_any_chain(chain: Chain) -> None:
    chain.setdefault(0, [(NEXT, 1, 9)])
    try:
        found = logical(chain)
    except ValueError:
        return
    assert [index for index, _, _ in found] == list(range(5, 5 + len(found)))


@given(
    st.lists(st.tuples(st.integers(510, 640), st.binary(min_size=1, max_size=9)), max_size=4),
    st.sampled_from([512, 4096]),
)
def test_any_header(changes: list[tuple[int, bytes]], sector: int) -> None:
    disk = make.gpt(ROWS)
    for at, value in changes:
        disk[at : at + len(value)] = value
    try:
        header = gpt.header(bytes(disk), sector)
    except ValueError:
        return
    assert header.count * header.entry_size <= 256 * 512
