# SPDX-License-Identifier: Apache-2.0 OR MIT
"""authenticode.c: each byte is read once, and hash, sections and payload are of those bytes."""

import errno
import hashlib
import struct
from typing import Any

import pytest

from tests.core.core import Core
from tests.core.event_log import BANKS, authenticode
from tests.core.pe_builder import Section, build, with_field, with_section

PAYLOAD = b"cfsdig1\nrootfs=fsverity-sha256-12:" + b"0" * 64 + b"\n"
UKI = build(
    [
        Section(b".text", b"t" * 700),
        Section(b".linux", b"l" * 70000),
        Section(b".bss", b"", 5000),
        Section(b".cfsdig", PAYLOAD),
        Section(b".profile", b"p"),
        Section(b".cfsdig", PAYLOAD.replace(b"0", b"1")),
    ]
)


def parse(
    core: Core, data: bytes, bank: int = 0xB, profile: int = -1, end: int | None = None
) -> tuple[int, str | None, Any]:
    """`end`: where certificates begin, of which nothing is to be read."""
    reads: list[tuple[int, int]] = []

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(_context: Any, offset: int, to: Any, length: int) -> int:
        assert offset == sum(size for _, size in reads)
        assert length <= core.lib.CFS_UKI_CHUNK
        reads.append((offset, length))
        core.ffi.memmove(to, data[offset : offset + length], length)
        return 0

    uki = core.ffi.new("struct cfs_uki *")
    why = core.ffi.new("const char **")
    result = core.lib.cfs_uki_parse(read, core.ffi.NULL, len(data), bank, profile, uki, why)
    if result == 0:
        # The first chunk may reach into the certificates of a small file.
        whole = len(data) if end is None else end
        assert sum(size for _, size in reads) == max(whole, min(len(data), 32768))
    return result, core.text(why[0]), uki


@pytest.mark.parametrize("name", BANKS)
def test_the_hash_that_firmware_measures(core: Core, name: str) -> None:
    size = hashlib.new(name).digest_size
    for data in (
        UKI,
        UKI + b"a tail",
        with_field(UKI, "CheckSum", 7),
        build([Section(b".a", b"x")]),
    ):
        result, why, uki = parse(core, data, BANKS[name])
        assert (result, why) == (0, None)
        assert bytes(uki.hash)[:size] == authenticode(data, name)
    assert parse(core, UKI, 0x12)[:2] == (-errno.EPROTONOSUPPORT, None)


def test_certificates_change_nothing(core: Core) -> None:
    for size in (8, 16384):
        sections = [Section(b".linux", b"l" * 70000)]
        plain, signed = build(sections), build(sections, certificates=b"c" * size)
        hashes = {bytes(parse(core, data, end=len(plain))[2].hash)[:32] for data in (plain, signed)}
        assert hashes == {authenticode(plain)}


def test_each_other_byte_counts(core: Core) -> None:
    own = authenticode(UKI)
    for at in (0, 70, 0x80 + 24 + 70, 1100, 2000, 70000, len(UKI) - 1):
        changed = bytearray(UKI)
        changed[at] ^= 1
        result, _, uki = parse(core, bytes(changed))
        assert result < 0 or bytes(uki.hash)[:32] != own


def test_sections_and_payload(core: Core) -> None:
    _, _, uki = parse(core, UKI)
    contents = [b"t" * 700, b"l" * 70000, b"", PAYLOAD]
    for number, content in enumerate(contents):
        if content:
            assert bytes(uki.sections[number])[:32] == hashlib.sha256(content).digest()
    assert bytes(uki.payload)[: uki.payload_size] == PAYLOAD
    for profile, expected in ((0, PAYLOAD.replace(b"0", b"1")), (1, PAYLOAD)):
        _, _, uki = parse(core, UKI, profile=profile)
        assert bytes(uki.payload)[: uki.payload_size] == expected
    _, _, uki = parse(core, build([Section(b".linux", b"l")]))
    assert uki.payload_size == -errno.ENOENT


def test_the_order_of_the_table_is_not_that_of_the_file(core: Core) -> None:
    data = build([Section(b".a", b"a" * 512), Section(b".b", b"b" * 512)])
    swapped = with_section(data, 0, PointerToRawData=1024, SizeOfRawData=512)
    swapped = with_section(swapped, 1, PointerToRawData=512)
    _, _, first = parse(core, data)
    result, _, uki = parse(core, swapped)
    assert result == 0
    assert bytes(uki.sections[0]) == bytes(first.sections[1])
    assert bytes(uki.hash)[:32] == authenticode(swapped)


def test_a_gap(core: Core) -> None:
    """Firmware would hash some bytes twice and others not at all."""
    data = build([Section(b".a", b"a" * 1024), Section(b".b", b"b" * 512)])
    for changed in (
        with_section(data, 0, SizeOfRawData=512, VirtualSize=512),
        with_section(data, 0, SizeOfRawData=0),
        with_section(data, 0, SizeOfRawData=513, VirtualSize=513),
    ):
        result, why, uki = parse(core, changed)
        assert (result, why) == (-errno.EBADMSG, "section: a gap in front of its data")
        assert uki.pe.section_count == 0


def test_headers_that_are_too_long(core: Core) -> None:
    many = build([Section(b".%d" % number) for number in range(511)] + [Section(b".z", b"z")])
    assert parse(core, many)[0] == 0
    far = with_field(build([Section(b".a", b"a" * 70000)]), "e_lfanew", 40000)
    assert parse(core, far)[:2] == (-errno.EBADMSG, "headers: over 32 KiB")
    large = with_field(build([Section(b".bss", b"", 9)]) + bytes(70000), "SizeOfHeaders", 33000)
    assert parse(core, large)[:2] == (-errno.EBADMSG, "headers: over 32 KiB")
    assert parse(core, with_field(large, "SizeOfHeaders", 32768))[0] == 0


def test_payloads_that_are_none(core: Core) -> None:
    most = build([Section(b".cfsdig", b"x" * 16384)])
    assert parse(core, most)[0] == 0
    more = build([Section(b".cfsdig", b"x" * 16385)])
    assert parse(core, more)[:2] == (-errno.EMSGSIZE, None)
    twice = build([Section(b".cfsdig", b"x"), Section(b".cfsdig", b"x")])
    assert parse(core, twice)[:2] == (-errno.EEXIST, None)
    empty = with_section(build([Section(b".cfsdig", b"x")]), 0, VirtualSize=0)
    assert parse(core, empty)[:2] == (-errno.EBADMSG, "section: VirtualSize is 0")
    assert parse(core, b"MZ")[:2] == (-errno.EMSGSIZE, "file: under 1 KiB")


def test_reads_that_fail(core: Core) -> None:
    left = most = 0

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(_context: Any, offset: int, to: Any, length: int) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            return -errno.EIO
        core.ffi.memmove(to, UKI[offset : offset + length], length)
        return 0

    results: list[int] = []
    while results[-1:] != [0]:
        left = most
        most += 1
        uki = core.ffi.new("struct cfs_uki *")
        why = core.ffi.new("const char **")
        results.append(core.lib.cfs_uki_parse(read, core.ffi.NULL, len(UKI), 0xB, -1, uki, why))
        assert results[-1] == 0 or uki.payload_size == 0
    assert len(results) > 4
    assert set(results[:-1]) == {-errno.EIO}


def test_the_bytes_behind_a_section_are_hashed_as_the_files_alone(core: Core) -> None:
    data = build([Section(b".a", b"a" * 100), Section(b".b", b"b")])
    more = with_section(data, 0, VirtualSize=9000)
    _, _, uki = parse(core, more)
    assert bytes(uki.sections[0])[:32] == hashlib.sha256(b"a" * 100 + bytes(412)).digest()
    assert struct.unpack_from("<H", data, 0x80 + 6) == (2,)
