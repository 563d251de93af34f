# SPDX-License-Identifier: Apache-2.0 OR MIT
"""proof.c: PCR 11 tells of the file's sections, of each once, and of no other."""

import errno
from collections.abc import Sequence
from typing import Any

import pytest

from tests.core.core import Core
from tests.core.event_log import BANKS, IPL, Event, build
from tests.core.pe_builder import Section, with_section
from tests.core.pe_builder import build as build_pe

BASE = [
    Section(b".text", b"stub"),
    Section(b".linux", b"kernel"),
    Section(b".osrel", b"ID=a"),
    Section(b".cmdline", b"quiet"),
    Section(b".initrd", b"initrd"),
    Section(b".cfsdig", b"cfsdig1"),
    Section(b".pcrsig", b"{}"),
]
PROFILES = [
    *BASE,
    Section(b".profile", b"ID=first"),
    Section(b".profile", b"ID=second"),
    Section(b".cmdline", b"debug"),
    Section(b".dtb", b"tree"),
]
PAIRS = [
    (b".linux", b"kernel"),
    (b".osrel", b"ID=a"),
    (b".cmdline", b"quiet"),
    (b".initrd", b"initrd"),
]
ALL = (
    ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey .profile .hwids"
).split()


def prove(
    core: Core, uki: bytes, pairs: Sequence[tuple[bytes, bytes]], profile: int = -1,
    bank: int = 0xB, more: Sequence[Event] = (),
) -> tuple[str, str] | None:  # fmt: skip
    """None where it holds; else the section's name, and why not."""
    events = [Event(11, IPL, part) for name, data in pairs for part in (name + b"\0", data)]
    log = build([Event(4, 0x80000003, b"uki"), *events, *more], [4, bank])

    @core.ffi.callback("int(void *, uint64_t, void *, size_t)")  # type: ignore[untyped-decorator]
    def read(_context: Any, offset: int, to: Any, length: int) -> int:
        core.ffi.memmove(to, uki[offset : offset + length], length)
        return 0

    why = core.ffi.new("const char **")
    file, found = core.ffi.new("struct cfs_uki *"), core.ffi.new("struct cfs_log_events *")
    null = core.ffi.NULL
    assert core.lib.cfs_uki_parse(read, null, len(uki), bank, profile, file, why) == 0
    assert core.lib.cfs_log_parse(core.buffer(log), len(log), bank, found, why) == 0
    name = core.room(9)
    text = core.ffi.cast("char *", name)
    result = core.lib.cfs_proof_sections(file, found, bank, profile, text, why)
    assert result in (0, -errno.EBADMSG)
    if result == 0:
        assert (core.text(why[0]), core.text(text)) == (None, "")
        return None
    return core.text(text) or "", core.text(why[0]) or ""


@pytest.mark.parametrize("bank", BANKS.values())
def test_it_holds(core: Core, bank: int) -> None:
    bank = 0xB if bank == 4 else bank
    assert prove(core, build_pe(BASE), PAIRS, bank=bank) is None
    assert prove(core, build_pe(BASE), PAIRS[::-1], bank=bank) is None


def test_profiles(core: Core) -> None:
    uki = build_pe(PROFILES)
    first = [*PAIRS, (b".profile", b"ID=first")]
    second = [
        *PAIRS[:2],
        (b".cmdline", b"debug"),
        PAIRS[3],
        (b".dtb", b"tree"),
        (b".profile", b"ID=second"),
    ]
    assert prove(core, uki, PAIRS) is None
    assert prove(core, uki, first, 0) is None
    assert prove(core, uki, second, 1) is None
    for profile, pairs in (
        (-1, first),
        (-1, second),
        (0, PAIRS),
        (0, second),
        (1, PAIRS),
        (1, first),
    ):
        assert prove(core, uki, pairs, profile) is not None
    # That of the base in place of the profile's own.
    mixed = [*second[:2], (b".cmdline", b"quiet"), *second[3:]]
    assert prove(core, uki, mixed, 1) == (".cmdline", "PCR 11 has another content of it")
    # A number that is not there: the base alone.
    assert prove(core, uki, PAIRS, 7) is None


def test_none_is_missing_twice_or_another(core: Core) -> None:
    uki = build_pe(BASE)
    for number, (name, data) in enumerate(PAIRS):
        others = [*PAIRS[:number], *PAIRS[number + 1 :]]
        text = name.decode()
        assert prove(core, uki, others) == (text, "PCR 11 does not have it")
        assert prove(core, uki, [*PAIRS, (name, data)]) == (text, "PCR 11 has it twice")
        assert prove(core, uki, [*others, (name, data + b"x")]) == (
            text, "PCR 11 has another content of it"
        )  # fmt: skip
        assert prove(core, uki, [*PAIRS, (name + b"x", data)]) == (
            "", "PCR 11 has a section that is not there"
        )  # fmt: skip
    # One that the stub knows, and the file has not.
    assert prove(core, uki, [*PAIRS, (b".ucode", b"")]) == (
        "", "PCR 11 has a section that is not there"
    )  # fmt: skip


def test_no_pairs(core: Core) -> None:
    uki = build_pe(BASE)
    none = ("", "PCR 11 has no pairs of names and sections")
    assert prove(core, uki, []) == none
    assert prove(core, uki, PAIRS, more=[Event(11, IPL, b"enter-initrd")]) == none


@pytest.mark.parametrize("name", ALL)
def test_what_the_stub_always_measures(core: Core, name: str) -> None:
    uki = build_pe([Section(b".other", b"o"), Section(name.encode(), b"content")])
    assert prove(core, uki, [(name.encode(), b"content")], 0 if name == ".profile" else -1) is None
    profile = 0 if name == ".profile" else -1
    assert prove(core, uki, [(b".other", b"o")], profile) == (name, "PCR 11 does not have it")


@pytest.mark.parametrize("name", [b".dtbauto", b".efifw", b".new"])
def test_one_of_several_or_none(core: Core, name: bytes) -> None:
    several = [Section(name, content) for content in (b"1", b"2", b"3")]
    uki = build_pe([*BASE, *several])
    assert prove(core, uki, PAIRS) is None
    for content in (b"1", b"2", b"3"):
        assert prove(core, uki, [*PAIRS, (name, content)]) is None
    text = name.decode()
    assert prove(core, uki, [*PAIRS, (name, b"4")]) == (text, "PCR 11 has another content of it")
    assert prove(core, uki, [*PAIRS, (name, b"1"), (name, b"2")]) == (text, "PCR 11 has it twice")


def test_a_section_with_more_than_the_file_has(core: Core) -> None:
    """The stub would have measured zeros behind it."""
    uki = with_section(build_pe(BASE), 1, VirtualSize=513)
    pairs = [(b".linux", b"kernel".ljust(512, b"\0")), *PAIRS[1:]]
    assert prove(core, uki, pairs) == (".linux", "PCR 11 has another content of it")
    empty = with_section(build_pe(BASE), 1, VirtualSize=0)
    assert prove(core, empty, [(b".linux", b""), *PAIRS[1:]]) == (
        ".linux", "PCR 11 has another content of it"
    )  # fmt: skip


def test_a_name_of_eight_characters(core: Core) -> None:
    uki = build_pe([*BASE, Section(b".12345678"[:8], b"x")])
    assert prove(core, uki, [*PAIRS, (b".1234567", b"x")]) is None


def test_no_bank(core: Core) -> None:
    file, found = core.ffi.new("struct cfs_uki *"), core.ffi.new("struct cfs_log_events *")
    file.pe.section_count = 1
    why, name = core.ffi.new("const char **"), core.ffi.new("char[9]")
    assert core.lib.cfs_proof_sections(file, found, 0x12, -1, name, why) == -errno.EPROTONOSUPPORT
