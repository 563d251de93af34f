# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Changed PE images: read back by our reader and by pefile; what must not be changed is refused."""

import _cfs
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pefile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.uki import pe_write
from pyinit.host.uki.pe_write import PeWriteError, checksum

ALIGNMENT, PAGE = 512, 4096


@dataclass
class Image:
    """A small PE32+ EFI application, in the layout that linkers write."""

    sections: list[tuple[str, bytes]]
    entry: int = PAGE
    directories: dict[int, tuple[int, int]] = field(default_factory=dict)
    headers_size: int = 1024
    gap: int = 0  # pages between sections in memory
    tail: bytes = b""

    def build(self) -> bytes:
        table, bodies = b"", b""
        address, pointer = PAGE, self.headers_size
        for name, content in self.sections:
            raw = content + bytes(-len(content) % ALIGNMENT)
            table += struct.pack(
                "<8sIIIIIIHHI", name.encode(), len(content), address, len(raw), pointer,
                0, 0, 0, 0, 0x40000040,
            )  # fmt: skip
            address += -(-len(content) // PAGE) * PAGE + self.gap * PAGE
            pointer += len(raw)
            bodies += raw
        directories = b"".join(
            struct.pack("<II", *self.directories.get(index, (0, 0))) for index in range(16)
        )
        optional = struct.pack(
            "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, 1, 0, 0, len(bodies), 0, self.entry, PAGE,
            0x10000, PAGE, ALIGNMENT, 0, 0, 0, 0, 0, 0, 0, address - self.gap * PAGE,
            self.headers_size, 0, 10, 0, 0, 0, 0, 0, 0, 16,
        )  # fmt: skip
        coff = struct.pack("<HHIIIHH", 0x8664, len(self.sections), 0, 0, 0, 240, 0x22)
        dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
        head = dos + b"PE\0\0" + coff + optional + directories + table
        assert len(head) <= self.headers_size
        return head.ljust(self.headers_size, b"\0") + bodies + self.tail


def contents(data: bytes) -> dict[str, bytes]:
    """By our own reader."""
    _, table = _cfs.pe_parse(data)
    return {
        row[0].rstrip(b"\0").decode(): data[row[4] : row[4] + min(row[1], row[3])] for row in table
    }


def check_layout(data: bytes) -> pefile.PE:
    """What pefile, firmware and Authenticode expect of the whole."""
    fields, table = _cfs.pe_parse(data)
    pe = pefile.PE(data=data, fast_load=True)
    assert not pe.get_warnings()
    assert pe.verify_checksum()
    stored = sorted((row[4], row[3]) for row in table if row[3])
    assert stored[0][0] == fields["size_of_headers"]
    for (start, size), (following, _) in pairwise(stored):
        assert start + size == following, "a gap or an overlap between raw sections"
    assert stored[-1][0] + stored[-1][1] == len(data)
    memory = sorted((row[2], row[1]) for row in table)
    assert memory[0][0] >= fields["size_of_headers"]
    for (start, size), (following, _) in pairwise(memory):
        assert start + size <= following, "an overlap in memory"
    end = memory[-1][0] + memory[-1][1]
    assert fields["size_of_image"] == -(-end // PAGE) * PAGE
    for row in table:
        assert row[2] % PAGE == row[3] % ALIGNMENT == row[4] % ALIGNMENT == 0
    return pe


NAMES = st.lists(
    st.sampled_from([".linux", ".initrd", ".osrel", ".cmdline", ".uname", ".data"]), unique=True
).map(lambda names: [".text", *names])
CONTENT = st.binary(min_size=1, max_size=40).flatmap(
    lambda data: st.integers(1, 300).map(lambda times: data * times)
)


def rewrite(
    data: bytes,
    *,
    change: Mapping[int, bytes],
    remove: Sequence[int] = (),
    add: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """In one piece, from contents in two."""
    halves: dict[int, list[pe_write.Piece]] = {}
    for index, content in change.items():
        middle = len(content) // 2
        halves[index] = [content[:middle], memoryview(content)[middle:]]
    return b"".join(pe_write.rewrite(data, change=halves, remove=remove, add=add))


@given(st.lists(st.binary(max_size=9)))
def test_the_sum_is_that_of_the_whole_however_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    padded = whole + bytes(len(whole) % 2)
    folded = sum(struct.unpack(f"<{len(padded) // 2}H", padded))
    while folded > 0xFFFF:
        folded = (folded & 0xFFFF) + (folded >> 16)
    expected = folded if any(whole) else 0xFFFF
    assert checksum(pieces) == expected + len(whole)


@settings(deadline=None)
@given(st.data())
def test_only_what_was_asked_for_changes(data: st.DataObject) -> None:
    names = data.draw(NAMES)
    before = {name: data.draw(CONTENT) for name in names}
    gap = data.draw(st.integers(0, 2))
    image = Image(list(before.items()), gap=gap).build()
    changed = data.draw(st.dictionaries(st.sampled_from(names), CONTENT))
    removed = data.draw(st.sets(st.sampled_from(names))) - {*changed, ".text"}
    added = data.draw(st.lists(CONTENT, max_size=2))
    expected = {**before, **changed}
    expected = {name: expected[name] for name in names if name not in removed}
    expected |= {f".new{index}": content for index, content in enumerate(added)}
    result = rewrite(
        image,
        change={names.index(name): content for name, content in changed.items()},
        remove=[names.index(name) for name in removed],
        add=[(f".new{index}".encode(), content) for index, content in enumerate(added)],
    )
    assert contents(result) == expected
    assert list(contents(result)) == list(expected)
    pe = check_layout(result)
    for section in pe.sections:
        name = section.Name.rstrip(b"\0").decode()
        assert section.get_data()[: section.Misc_VirtualSize] == expected[name]
        assert section.Characteristics == 0x40000040


THREE = [(".text", b"code" * 300), (".initrd", b"initrd"), (".linux", b"kernel" * 99)]


def addresses(data: bytes) -> list[int]:
    return [row[2] for row in _cfs.pe_parse(data)[1]]


def test_nothing_moves_that_need_not() -> None:
    image = Image(THREE, gap=1).build()
    result = rewrite(image, change={1: bytes(PAGE + 1)}, add=[(b".cfsdig", b"x")])
    assert addresses(result)[:3] == addresses(image)
    assert rewrite(image, change={}) == rewrite(rewrite(image, change={}), change={})


def test_what_is_grown_into_moves_up() -> None:
    image = Image(THREE, gap=1).build()
    result = rewrite(image, change={1: bytes(2 * PAGE + 1)})
    assert addresses(result) == [PAGE, 3 * PAGE, 6 * PAGE]
    check_layout(result)


@pytest.mark.parametrize(
    "image",
    [
        Image(THREE, entry=3 * PAGE + 5),
        Image(THREE, directories={5: (3 * PAGE, 8)}),
    ],
)
def test_what_the_headers_point_into_does_not_move(image: Image) -> None:
    with pytest.raises(PeWriteError, match=r"section \.linux would move"):
        rewrite(image.build(), change={1: bytes(PAGE + 1)})


def test_the_table_gets_room_by_growing_the_headers() -> None:
    sections = [(f".s{index}", b"content") for index in range(4)]
    result = rewrite(Image(sections, headers_size=512).build(), change={}, add=[(b".new", b"x")])
    fields, _ = _cfs.pe_parse(result)
    assert fields["size_of_headers"] == 1024
    check_layout(result)


@pytest.mark.parametrize("image", [Image(THREE), Image(THREE, directories={5: (PAGE, 8)}, entry=0)])
def test_what_the_headers_point_into_is_not_removed(image: Image) -> None:
    with pytest.raises(PeWriteError, match="cannot be removed"):
        rewrite(image.build(), change={}, remove=[0])


def test_no_room_in_the_headers() -> None:
    sections = [(f".s{index}", b"x") for index in range(94)]
    image = Image(sections, headers_size=PAGE).build()
    with pytest.raises(PeWriteError, match="no room"):
        rewrite(image, change={}, add=[(b".new", b"x")])


def test_what_lies_behind_the_table_is_not_overwritten() -> None:
    image = bytearray(Image(THREE).build())
    end = _cfs.pe_parse(bytes(image))[0]["section_table"] + 3 * 40
    image[end + 5] = 1
    with pytest.raises(PeWriteError, match="behind the section table"):
        rewrite(bytes(image), change={}, add=[(b".new", b"x")])
    assert rewrite(bytes(image), change={1: b"other"})[end + 5] == 1


def test_data_outside_of_sections_is_not_lost() -> None:
    with pytest.raises(PeWriteError, match="data in no section"):
        rewrite(Image(THREE, tail=b"tail").build(), change={1: b"other"})
    assert rewrite(Image(THREE, tail=bytes(8)).build(), change={}) == rewrite(
        Image(THREE).build(), change={}
    )


def test_symbols_are_dropped() -> None:
    image = bytearray(Image(THREE).build())
    struct.pack_into("<II", image, 64 + 12, len(image), 1)
    result = rewrite(bytes(image) + bytes(range(18)) + struct.pack("<I", 4), change={})
    pe = check_layout(result)
    assert pe.FILE_HEADER.PointerToSymbolTable == pe.FILE_HEADER.NumberOfSymbols == 0
    assert pe.FILE_HEADER.Characteristics == 0x22 | 8


def test_signed_is_refused() -> None:
    image = Image(THREE)
    certificate = struct.pack("<IHH", 16, 0x200, 2) + bytes(8)
    image.directories[4] = (len(image.build()), len(certificate))
    image.tail = certificate
    with pytest.raises(PeWriteError, match="signed"):
        rewrite(image.build(), change={1: b"other"})


def test_no_pe_is_the_readers_error() -> None:
    with pytest.raises(OSError, match=r"MZ|DOS"):
        rewrite(bytes(2048), change={})


@pytest.mark.parametrize(("name", "content"), [(b".too-long", b"x"), (b".empty", b"")])
def test_sections_that_no_reader_would_find(name: bytes, content: bytes) -> None:
    with pytest.raises(PeWriteError, match="section"):
        rewrite(Image(THREE).build(), change={}, add=[(name, content)])
