# SPDX-License-Identifier: Apache-2.0 OR MIT
"""pe.c: every rule broken alone, agreement with pefile, and files that nobody meant."""

import errno
import re
import struct
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core import pe_builder
from tests.core.build import CSRC
from tests.core.core import Core
from tests.core.pe_builder import (
    Section,
    with_certificates,
    with_directories,
    with_field,
    with_section,
)
from tests.core.pe_readers import agrees_with_pefile

GOOD = pe_builder.build(
    [
        Section(b".text", b"t" * 700),
        Section(b".bss", b"", 4096),
        Section(b".cfsdig", b"d" * 100),
        Section(b".none"),
    ],
    certificates=b"c" * 24,
)
HEADERS_SIZE = 0x400
TEXT, BSS, OURS = range(3)
CERTIFICATES = len(GOOD) - 24

UNKNOWN_MACHINE = 0x8665


def _with_alignment(value: int, data: bytes) -> bytes:
    return with_field(data, "FileAlignment", value)


def _moved_to_the_end(data: bytes) -> bytes:
    """The COFF header as the last bytes of the file, and no room after it."""
    coff = data[pe_builder.HEADER_OFFSET : pe_builder.HEADER_OFFSET + 24]
    return with_field(data, "e_lfanew", len(data) - 24)[:-24] + coff


# Name of the case: how it is broken, and the rule that must say so.
BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no-mz": (lambda d: b"ZM" + d[2:], "DOS header: no MZ"),
    "e_lfanew-low": (lambda d: with_field(d, "e_lfanew", 56), "DOS header: e_lfanew below 64"),
    "e_lfanew-zero": (lambda d: with_field(d, "e_lfanew", 0), "DOS header: e_lfanew below 64"),
    "e_lfanew-odd": (
        lambda d: with_field(d, "e_lfanew", 0x84),
        "DOS header: e_lfanew is not a multiple of 8",
    ),
    "e_lfanew-end": (
        lambda d: with_field(d, "e_lfanew", len(d) - 16),
        "DOS header: e_lfanew outside the file",
    ),
    "e_lfanew-huge": (
        lambda d: with_field(d, "e_lfanew", 0xFFFFFFF8),
        "DOS header: e_lfanew outside the file",
    ),
    "no-signature": (
        lambda d: with_field(d, "Signature", 0x4550 | 1 << 16),
        "PE header: no PE signature",
    ),
    "machine": (
        lambda d: with_field(d, "Machine", UNKNOWN_MACHINE),
        "PE header: unknown machine",
    ),
    "no-sections": (
        lambda d: with_field(d, "NumberOfSections", 0),
        "PE header: not 1 to 512 sections",
    ),
    "513-sections": (
        lambda d: pe_builder.build([Section(b".%d" % i) for i in range(513)]),
        "PE header: not 1 to 512 sections",
    ),
    "optional-header-none": (
        lambda d: with_field(d, "SizeOfOptionalHeader", 0),
        "optional header: impossible size",
    ),
    "optional-header-small": (
        lambda d: with_field(d, "SizeOfOptionalHeader", 95),
        "optional header: impossible size",
    ),
    "optional-header-too-small-for-plus": (
        lambda d: with_field(d, "SizeOfOptionalHeader", 111),
        "optional header: impossible size",
    ),
    "optional-header-large": (
        lambda d: with_field(d, "SizeOfOptionalHeader", 241),
        "optional header: impossible size",
    ),
    "optional-header-outside": (
        lambda d: with_field(_moved_to_the_end(d), "SizeOfOptionalHeader", 112),
        "optional header: outside the file",
    ),
    "magic": (
        lambda d: with_field(d, "Magic", 0x107),
        "optional header: magic is neither PE32 nor PE32+",
    ),
    "4-directories": (
        lambda d: pe_builder.build([Section(b".text", b"t" * 700)], directories=4),
        "optional header: not 5 to 16 data directories",
    ),
    "17-directories": (
        lambda d: with_directories(d, 17),
        "optional header: not 5 to 16 data directories",
    ),
    "directories-wrap": (
        # 8 * count is 128 in 32 bits
        lambda d: with_directories(d, 0x20000010),
        "optional header: not 5 to 16 data directories",
    ),
    "15-directories-of-16": (
        lambda d: with_directories(d, 15),
        "optional header: size does not fit the data directories",
    ),
    "size-says-one-directory-more": (
        lambda d: with_field(
            pe_builder.build([Section(b".text", b"t" * 700)], directories=9),
            "SizeOfOptionalHeader",
            112 + 80,
        ),
        "optional header: size does not fit the data directories",
    ),
    "subsystem": (
        lambda d: with_field(d, "Subsystem", 11),
        "optional header: subsystem is not EFI application",
    ),
    **{
        f"file-alignment-{value}": (
            partial(_with_alignment, value),
            "optional header: FileAlignment is no power of two from 512 to 64 KiB",
        )
        for value in (0, 1, 32, 256, 513, 768, 128 << 10, 1 << 31)
    },
    **{
        f"section-alignment-{value}": (
            partial(with_field, name="SectionAlignment", value=value),
            "optional header: SectionAlignment is no power of two >= FileAlignment",
        )
        for value in (0, 1, 256, 513, 4095, 6144, 0xFFFFFFFF)
    },
    "headers-outside": (
        lambda d: with_field(d, "SizeOfHeaders", len(d) + 1),
        "optional header: SizeOfHeaders outside the file",
    ),
    "headers-too-small": (
        lambda d: with_field(d, "SizeOfHeaders", pe_builder.HEADER_OFFSET + 24 + 240 + 4 * 40 - 1),
        "section table: not within SizeOfHeaders",
    ),
    "headers-zero": (
        lambda d: with_field(d, "SizeOfHeaders", 0),
        "section table: not within SizeOfHeaders",
    ),
    "certificates-without-offset": (
        lambda d: with_certificates(d, 0, 24),
        "certificates: only one of offset and size is 0",
    ),
    "certificates-without-size": (
        lambda d: with_certificates(d, CERTIFICATES, 0),
        "certificates: only one of offset and size is 0",
    ),
    "certificates-offset-odd": (
        lambda d: with_certificates(d, CERTIFICATES + 4, 24),
        "certificates: not 8-aligned",
    ),
    "certificates-size-odd": (
        lambda d: with_certificates(d, CERTIFICATES, 20),
        "certificates: not 8-aligned",
    ),
    "certificates-in-headers": (
        lambda d: with_certificates(d, HEADERS_SIZE - 8, len(d) - HEADERS_SIZE + 8),
        "certificates: within the headers",
    ),
    "certificates-not-last": (
        lambda d: d + bytes(8),
        "certificates: do not end with the file",
    ),
    "certificates-too-long": (
        lambda d: with_certificates(d, CERTIFICATES, 32),
        "certificates: do not end with the file",
    ),
    "certificates-wrap": (
        # offset + size is the file's size in 32 bits
        lambda d: with_certificates(d, 0xFFFFFFF8, len(d) + 8),
        "certificates: do not end with the file",
    ),
    "long-name": (
        lambda d: with_section(d, OURS, b"/4"),
        "section: name refers to the string table",
    ),
    "data-in-headers": (
        lambda d: with_section(d, TEXT, PointerToRawData=HEADERS_SIZE - 512, SizeOfRawData=512),
        "section: data within the headers",
    ),
    "data-at-zero": (
        lambda d: with_section(d, TEXT, PointerToRawData=0, SizeOfRawData=512),
        "section: data within the headers",
    ),
    "data-not-aligned": (
        lambda d: with_section(d, TEXT, PointerToRawData=HEADERS_SIZE + 8, SizeOfRawData=512),
        "section: data not aligned to FileAlignment",
    ),
    "data-in-certificates": (
        lambda d: with_section(d, OURS, SizeOfRawData=513),
        "section: data beyond the file or within the certificates",
    ),
    "data-beyond-the-file": (
        lambda d: with_section(d, OURS, SizeOfRawData=1 << 20),
        "section: data beyond the file or within the certificates",
    ),
    "data-wraps": (
        lambda d: with_section(d, OURS, SizeOfRawData=0xFFFFFE00),
        "section: data beyond the file or within the certificates",
    ),
    "data-wraps-by-pointer": (
        lambda d: with_section(d, OURS, PointerToRawData=0xFFFFFE00),
        "section: data beyond the file or within the certificates",
    ),
    "overlap": (
        lambda d: with_section(d, TEXT, SizeOfRawData=1025),
        "section: data overlaps another section's",
    ),
    "overlap-within": (
        lambda d: with_section(d, OURS, PointerToRawData=HEADERS_SIZE + 512),
        "section: data overlaps another section's",
    ),
    "overlap-same": (
        lambda d: with_section(d, OURS, PointerToRawData=HEADERS_SIZE, SizeOfRawData=1024),
        "section: data overlaps another section's",
    ),
    "overlap-around": (
        lambda d: with_section(d, OURS, PointerToRawData=HEADERS_SIZE, SizeOfRawData=1536),
        "section: data overlaps another section's",
    ),
}


def test_the_good_file(core: Core) -> None:
    result, pe, why = core.pe_parse(GOOD)
    assert (result, why) == (0, None)
    assert pe.file_size == len(GOOD)
    assert (pe.machine, pe.magic) == (0x8664, 0x20B)
    assert pe.header_offset == pe_builder.HEADER_OFFSET
    assert pe.size_of_headers == HEADERS_SIZE
    assert (pe.certificate_offset, pe.certificate_size) == (CERTIFICATES, 24)
    assert core.pe_find(pe, b".cfsdig") == (OURS, None)
    assert len(GOOD) == CERTIFICATES + 24


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule(core: Core, case: str) -> None:
    change, rule = BROKEN[case]
    result, pe, why = core.pe_parse(change(GOOD))
    assert (result, why) == (-errno.EBADMSG, rule)
    assert (pe.file_size, pe.section_count) == (0, 0)


@pytest.mark.parametrize("value", [512, 4096, 64 << 10, 1 << 31])
def test_section_alignment(core: Core, value: int) -> None:
    result, pe, _ = core.pe_parse(with_field(GOOD, "SectionAlignment", value))
    assert (result, pe.section_alignment) == (0, value)


@pytest.mark.parametrize("pointer", [HEADERS_SIZE + 1, CERTIFICATES - 1])
def test_a_section_without_data_overlaps_none(core: Core, pointer: int) -> None:
    """Wherever it points to: into the one before it in the table, or the one after."""
    result, pe, why = core.pe_parse(with_section(GOOD, BSS, PointerToRawData=pointer))
    assert (result, why) == (0, None)
    assert pe.sections[BSS].raw_pointer == pointer


def test_the_data_may_lie_in_another_order_than_the_table(core: Core) -> None:
    first = with_section(GOOD, OURS, PointerToRawData=HEADERS_SIZE, SizeOfRawData=512)
    swapped = with_section(first, TEXT, PointerToRawData=HEADERS_SIZE + 512, SizeOfRawData=1024)
    result, pe, why = core.pe_parse(swapped)
    assert (result, why) == (0, None)
    assert pe.sections[OURS].raw_pointer < pe.sections[TEXT].raw_pointer


def test_every_rule_has_a_case() -> None:
    source = (CSRC / "parse" / "pe.c").read_text()
    parser = source[: source.index("\nint cfs_pe_find(")]
    rules = set(re.findall(r'broken\(why, "([^"]+)"\)', parser))
    assert rules == {rule for _, rule in BROKEN.values()}
    assert len(rules) == parser.count("return broken(") - 1  # one is said at two places


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1023])
def test_a_file_under_1_kib(core: Core, size: int) -> None:
    result, pe, why = core.pe_parse(GOOD[:size])
    assert (result, why) == (-errno.EMSGSIZE, "file: under 1 KiB")
    assert (pe.file_size, pe.section_count) == (0, 0)


def _parse_with(core: Core, size: int, data: bytes) -> tuple[int, str | None, list[int]]:
    """cfs_pe_parse on a file of `size` bytes, `data` and then zeros; how much it read each time."""
    reads = []

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(context: object, offset: int, out: object, length: int) -> int:
        if offset + length > size:
            return -errno.ERANGE
        reads.append(length)
        core.ffi.memmove(out, data[offset : offset + length].ljust(length, b"\0"), length)
        return 0

    pe = core.ffi.new("struct cfs_pe *")
    why = core.ffi.new("const char **")
    result = core.lib.cfs_pe_parse(read, core.ffi.NULL, size, pe, why)
    return result, core.text(why[0]), reads


def test_as_many_sections_as_ukify_makes(core: Core) -> None:
    """111 of them with 100 --devicetree-auto."""
    for count in (111, 512):
        data = pe_builder.build([Section(b".%d" % i, b"x") for i in range(count)])
        result, pe, _ = core.pe_parse(data)
        assert (result, pe.section_count) == (0, count)
        assert core.pe_find(pe, b".%d" % (count - 1))[0] == count - 1


def test_a_file_over_2_gib(core: Core) -> None:
    plain = with_certificates(GOOD, 0, 0)
    assert _parse_with(core, 2 << 30, plain)[:2] == (0, None)
    result, why, reads = _parse_with(core, (2 << 30) + 1, plain)
    assert (result, why, reads) == (-errno.EFBIG, "file: over 2 GiB", [])


def test_little_is_read(core: Core) -> None:
    most = pe_builder.build([Section(b".%d" % i) for i in range(95)] + [Section(b".x", b"x")])
    result, _, reads = _parse_with(core, 128 << 20, most)
    assert result == 0
    assert sum(reads) <= 8192


@pytest.mark.parametrize("fails", range(4))
def test_a_read_that_fails(core: Core, fails: int) -> None:
    block = core.buffer(GOOD)
    count = 0

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(context: object, offset: int, out: object, length: int) -> int:
        nonlocal count
        count += 1
        if count > fails:
            return -errno.EIO
        core.ffi.memmove(out, block + offset, length)
        return 0

    pe = core.ffi.new("struct cfs_pe *")
    why = core.ffi.new("const char **")
    result = core.lib.cfs_pe_parse(read, core.ffi.NULL, len(GOOD), pe, why)
    assert (result, count, core.text(why[0])) == (-errno.EIO, fails + 1, None)
    assert pe.section_count == 0


# ---- finding a section


def test_profiles(core: Core) -> None:
    sections = [b".linux", b".cfsdig", b".profile", b".cfsdig", b".profile", b".osrel", b".profile"]
    _, pe, _ = core.pe_parse(pe_builder.build([Section(name, b"x") for name in sections]))
    assert core.pe_find(pe, b".cfsdig", -1) == (1, None)
    assert core.pe_find(pe, b".cfsdig", 0) == (3, None)
    assert core.pe_find(pe, b".cfsdig", 1) == (-errno.ENOENT, None)
    assert core.pe_find(pe, b".linux", 0) == (-errno.ENOENT, None)
    assert core.pe_find(pe, b".osrel", -1) == (-errno.ENOENT, None)
    assert [core.pe_find(pe, b".profile", i)[0] for i in range(-1, 4)] == [
        -errno.ENOENT, 2, 4, 6, -errno.ENOENT,
    ]  # fmt: skip


@pytest.mark.parametrize("profile", [-1, 0])
def test_twice(core: Core, profile: int) -> None:
    sections = [b".cfsdig", b".cfsdig", b".profile", b".cfsdig", b".cfsdig"]
    _, pe, _ = core.pe_parse(pe_builder.build([Section(name, b"x") for name in sections]))
    assert core.pe_find(pe, b".cfsdig", profile) == (-errno.EEXIST, None)


@pytest.mark.parametrize("name", [b".cfsdigX", b".cfsdi", b".cfsdi\0g", b".Cfsdig", b"\0cfsdig"])
def test_all_eight_bytes_of_a_name_count(core: Core, name: bytes) -> None:
    _, pe, _ = core.pe_parse(with_section(GOOD, OURS, name))
    assert core.pe_find(pe, b".cfsdig") == (-errno.ENOENT, None)


def test_a_name_of_eight_bytes(core: Core) -> None:
    _, pe, _ = core.pe_parse(with_section(GOOD, OURS, b".sdmagic"))
    assert core.pe_find(pe, b".sdmagic") == (OURS, None)


@pytest.mark.parametrize("name", [b"", b".sdmagic9"])
def test_no_name(core: Core, name: bytes) -> None:
    _, pe, _ = core.pe_parse(GOOD)
    assert core.pe_find(pe, name) == (-errno.EINVAL, None)


def test_the_length_is_virtual_size(core: Core) -> None:
    """Within the section's own data: beyond lies the next section."""
    for size, expected in (
        (0, (-errno.EBADMSG, "section: VirtualSize is 0")),
        (1, (OURS, None)),
        (512, (OURS, None)),
        (513, (-errno.EBADMSG, "section: VirtualSize over SizeOfRawData")),
        (0xFFFFFFFF, (-errno.EBADMSG, "section: VirtualSize over SizeOfRawData")),
    ):
        result, pe, _ = core.pe_parse(with_section(GOOD, OURS, VirtualSize=size))
        assert result == 0
        assert core.pe_find(pe, b".cfsdig") == expected


# ---- properties

NAMES = st.one_of(
    st.sampled_from([b".text", b".cfsdig", b".profile", b".initrd", b".sdmagic"]),
    st.binary(max_size=8).filter(lambda name: not name.startswith(b"/")),
)
SECTIONS = st.lists(
    st.builds(Section, NAMES, st.binary(max_size=1200), st.none() | st.integers(0, 5000)),
    min_size=1, max_size=8,
).filter(lambda sections: any(section.data for section in sections))  # fmt: skip
FILES = st.builds(
    pe_builder.build,
    SECTIONS,
    plus=st.booleans(),
    machine=st.sampled_from([0x14C, 0x1C2, 0x8664, 0xAA64, 0x5064, 0x6264]),
    directories=st.integers(5, 16),
    certificates=st.sampled_from([b"", b"c" * 8, b"c" * 1472]),
)


@given(data=FILES)
def test_pefile_agrees_on_valid_files(core: Core, data: bytes) -> None:
    result, pe, why = core.pe_parse(data)
    assert (result, why) == (0, None)
    agrees_with_pefile(core, data, pe)


@given(
    data=FILES,
    changes=st.lists(
        st.tuples(st.integers(0, 1023), st.sampled_from(["<B", "<H", "<I"]), st.integers(0)),
        max_size=6,
    ),
    cut=st.integers(0, 4096),
    name=st.sampled_from([b".cfsdig", b".text"]),
    profile=st.integers(-1, 2),
)
@example(data=GOOD, changes=[], cut=0, name=b".cfsdig", profile=-1)
@settings(max_examples=400)
def test_mutations(
    core: Core,
    data: bytes,
    changes: list[tuple[int, str, int]],
    cut: int,
    name: bytes,
    profile: int,
) -> None:
    """Refused with a rule, or a file that another reader sees the same way; never out of bounds."""
    mutated = bytearray(data)
    for offset, form, value in changes:
        if offset + 4 <= len(mutated):
            struct.pack_into(form, mutated, offset, value % (1 << 8 * struct.calcsize(form)))
    if cut < len(mutated):
        del mutated[len(mutated) - cut :]
    result, pe, why = core.pe_parse(bytes(mutated))
    if result < 0:
        assert result in {-errno.EBADMSG, -errno.EMSGSIZE}
        assert why
        return
    agrees_with_pefile(core, bytes(mutated), pe)
    index, _ = core.pe_find(pe, name, profile)
    if index >= 0:
        section = pe.sections[index]
        assert 0 < section.virtual_size <= section.raw_size
        assert section.raw_pointer + section.raw_size <= len(mutated)
        assert section.raw_pointer >= pe.size_of_headers


@given(data=st.binary(max_size=3000))
def test_any_bytes(core: Core, data: bytes) -> None:
    assert core.pe_parse(data)[0] < 0
