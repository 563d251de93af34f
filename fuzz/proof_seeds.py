# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for what proves a UKI: event logs, files that are hashed, and both together."""

import struct

from tests.core.event_log import (
    APPLICATION,
    FROM_NOWHERE,
    IPL,
    NO_ACTION,
    Event,
    build,
    encode,
    header,
    of_boot,
)
from tests.core.pe_builder import Section, with_certificates, with_field, with_section
from tests.core.pe_builder import build as build_pe

from . import pe_seeds

_BANKS = ((4,), (0xB,), (0xC,), (0xD,), (4, 0xB), (4, 0xB, 0xC, 0xD))
_OWN = [(4, 20), (0xB, 32)]
_KNOWN = (
    b".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey .hwids .profile"
).split()


def eventlog() -> list[bytes]:
    """Each rule kept and broken, and a log cut at each of its parts."""
    good = _log()
    found = [build(_events(), banks) for banks in _BANKS]
    found += [good[:size] for size in range(0, len(good), 23)]
    found += [good + b"\0" * size for size in (1, 4, 12, 40)]
    found += [header(_OWN, count=count) for count in (0, 1, 2, 3, 8, 9, 0x7FFFFFFF, 0xFFFFFFFF)]
    found += [header(_OWN, version=version) for version in ((0, 0), (2, 2), (9, 2), (0, 3))]
    found += [header(_OWN, vendor=bytes(size)) for size in (1, 7, 255)]
    found += [header(_OWN, signature=b"Spec ID Event02"), header(_OWN, more=b"x"), header([])]
    found += [header([(0xB, 32), (0x12, size)]) for size in (0, 1, 64, 65, 0xFFFF)]
    found += [header([(0xB, 32)] * count) for count in (1, 2, 8)]
    found += [header([(name, 32) for name in range(4, 4 + count)]) for count in (1, 7, 8, 9)]
    found += [header([(0xB, 20)]), header([(4, 20)]), header([(0xC, 48)])]
    # Sizes of the header's own text.
    for size in (0, 1, 27, 28, 29, 32, 36, 38, 0xFFFFFFFF):
        found.append(good[:28] + struct.pack("<I", size) + good[32:])
    found += [struct.pack(">II20xI", 0, 3, 37) + good[32:], b"\1" + good[1:], good[:4] + good[8:]]
    return found + _wrong_events()


def _wrong_events() -> list[bytes]:
    start, plain = header(_OWN), encode(Event(11, IPL, b"x"), [4, 0xB])
    found = [start + plain * count for count in (1, 2, 63, 64, 65)]
    for at, values in ((0, (4, 11, 24, 0xFFFFFFFF)), (4, (0, 3, APPLICATION, 0xFFFFFFFF))):
        for value in values:
            found.append(start + plain[:at] + struct.pack("<I", value) + plain[at + 4 :])
    for count in (0, 1, 3, 8, 9, 0xFFFFFFFF):
        found.append(start + plain[:8] + struct.pack("<I", count) + plain[12:])
    for size in (1, 0x7FFFFFFF, 0xFFFFFFFF):
        found.append(start + plain[:-4] + struct.pack("<I", size))
    for digests in (
        {4: bytes(20)}, {0xB: bytes(32)}, {0xC: bytes(48)}, {0xB: bytes(31)}, {0x12: bytes(32)}, {},
    ):  # fmt: skip
        found += [start + encode(Event(pcr, APPLICATION, digests), ()) for pcr in (4, 7, 11)]
    for data in (FROM_NOWHERE, b"x" * 31, b"x" * 32):
        found.append(start + encode(Event(4, APPLICATION, b"x", data), [4, 0xB]))
    twice = struct.pack("<III", 11, IPL, 2) + 2 * (b"\x0b\0" + bytes(32)) + bytes(4)
    other = header([(0xB, 32), (0x12, 32)])
    known = encode(Event(4, APPLICATION, {0x12: bytes(32), 0xB: b"d" * 32}), ())
    return [*found, start + twice, other + known, other + known[:-6]]


def _events() -> list[Event]:
    return of_boot(_uki(), _sections())


def _log() -> bytes:
    return build(_events())


def _parts() -> list[Section]:
    return [
        Section(b".text", b"stub"),
        Section(b".linux", b"kernel"),
        Section(b".cmdline", b"quiet"),
        Section(b".dtbauto", b"1"),
        Section(b".dtbauto", b"2"),
        Section(b".cfsdig", b"cfsdig1\n"),
        Section(b".profile", b"ID=a"),
        Section(b".cmdline", b"debug"),
    ]


def _uki() -> bytes:
    return build_pe(_parts())


def _sections() -> list[tuple[bytes, bytes]]:
    return [(b".linux", b"kernel"), (b".cmdline", b"quiet")]


def authenticode() -> list[bytes]:
    """Those of the reader of headers; gaps, tails, and files of more than a chunk."""
    large = [Section(b".linux", b"l" * 40000), Section(b".cfsdig", b"x" * 100)]
    two = build_pe([Section(b".a", b"a" * 1024), Section(b".b", b"b" * 512)])
    found = [build_pe(large), build_pe(large, certificates=b"c" * 4096), build_pe(large) + b"tail"]
    found += [build_pe([Section(b".cfsdig", b"x" * size)]) for size in (4095, 4096, 4097)]
    found += [with_section(two, 0, SizeOfRawData=size, VirtualSize=size) for size in (0, 512, 513)]
    swapped = with_section(two, 0, PointerToRawData=1024)
    found.append(with_section(swapped, 1, PointerToRawData=512))
    found.append(with_section(swapped, 1, PointerToRawData=2048))
    found += [with_field(build_pe(large), "e_lfanew", at) for at in (32744, 32768, 40000)]
    late = with_field(build_pe([Section(b".bss", b"", 9)]) + bytes(40000), "SizeOfHeaders", 32769)
    found += [late, with_field(late, "SizeOfHeaders", 32768), with_certificates(late, 8, 8)]
    found.append(build_pe([Section(b".%d" % number) for number in range(511)] + [large[1]]))
    return found + pe_seeds.pe()[::2]


def proof() -> list[bytes]:
    """Each section missing, twice, another; profiles; no pairs."""
    uki, pairs = _uki(), _sections()
    found = [_both(uki, pairs), _both(uki, pairs[::-1]), _both(uki, []), b"", b"\xff\0\0\0"]
    found += [_both(uki, pairs, profile) for profile in (-128, -1, 0, 1, 127)]
    first = [pairs[0], (b".cmdline", b"debug"), (b".profile", b"ID=a")]
    found += [_both(uki, first, profile) for profile in (-1, 0, 1)]
    for number, (name, data) in enumerate(pairs):
        others = pairs[:number] + pairs[number + 1 :]
        found += [
            _both(uki, others), _both(uki, [*pairs, (name, data)]),
            _both(uki, [*others, (name, data + b"x")]), _both(uki, [*pairs, (name + b"x", data)]),
        ]  # fmt: skip
    found += [_both(uki, [*pairs, (b".dtbauto", data)]) for data in (b"1", b"2", b"3")]
    found.append(_both(uki, [*pairs, (b".dtbauto", b"1"), (b".dtbauto", b"2")]))
    for name in _KNOWN:
        profile = 0 if name == b".profile" else -1
        one = build_pe([Section(b".other", b"o"), Section(name, b"content")])
        for said in (
            [(name, b"content")],
            [(b".other", b"o")],
            [(name, b"c")],
            [(name, b"content")] * 2,
        ):
            found.append(_both(one, said, profile))
    for size in (0, 512, 513):
        found.append(_both(with_section(uki, 1, VirtualSize=size), pairs))
    good = _both(uki, pairs)
    found += [
        good[:1] + struct.pack("<I", size) + good[5:] for size in (0, 1, len(good), 2**32 - 1)
    ]
    odd = build([Event(11, IPL, b"x"), Event(4, NO_ACTION, b"")])
    found.append(struct.pack("<bI", -1, len(uki)) + uki + odd)
    found += [good[: len(good) - cut] for cut in (1, 60, 300)]
    return [*found, *(_both(build_pe([Section(b".%d" % n, b"x")]), pairs) for n in range(20))]


def _both(uki: bytes, pairs: list[tuple[bytes, bytes]], profile: int = -1) -> bytes:
    events = [Event(11, IPL, part) for name, data in pairs for part in (name + b"\0", data)]
    log = build([Event(4, APPLICATION, b"uki"), *events], (0xB,))
    return struct.pack("<bI", profile, len(uki)) + uki + log
