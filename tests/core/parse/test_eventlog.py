# SPDX-License-Identifier: Apache-2.0 OR MIT
"""eventlog.c: the log is read whole, or not at all."""

import errno
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.core import event_log
from tests.core.core import Core
from tests.core.event_log import APPLICATION, IPL, NO_ACTION, Event, build, encode, header

EVENTS = [
    Event(0, NO_ACTION, bytes(20), b"StartupLocality\0\3"),
    Event(4, 4, b"\0\0\0\0"),
    Event(4, APPLICATION, b"loader"),
    Event(4, APPLICATION, b"uki"),
    Event(5, 1, b"another PCR", b"x" * 300),
    Event(11, IPL, b".linux\0"),
    Event(11, IPL, b"kernel"),
    Event(11, NO_ACTION, b"nothing"),
    Event(4, APPLICATION, b"kernel"),
]
CUT = "an event that is cut"


def parse(core: Core, log: bytes, bank: int = 0xB) -> tuple[int, str | None, Any]:
    found = core.ffi.new("struct cfs_log_events *")
    why = core.ffi.new("const char **")
    result = core.lib.cfs_log_parse(core.buffer(log), len(log), bank, found, why)
    return result, core.text(why[0]), found


def refused(core: Core, log: bytes, bank: int = 0xB) -> str:
    result, why, _ = parse(core, log, bank)
    assert result == -errno.EBADMSG
    assert why
    return why


@pytest.mark.parametrize("name", event_log.BANKS)
def test_values_as_the_tpm_has_them(core: Core, name: str) -> None:
    bank = event_log.BANKS[name]
    size = event_log.SIZES[bank]
    result, why, found = parse(core, build(EVENTS, [*event_log.BANKS.values()]), bank)
    assert (result, why) == (0, None)
    for pcr, field in ((4, found.pcr_4), (11, found.pcr_11)):
        value = bytes(core.ffi.buffer(field))
        assert value == event_log.replay(EVENTS, pcr, name).ljust(64, b"\0")
    assert found.has_image
    assert bytes(found.image)[:size] == hashlib.new(name, b"uki").digest()
    assert found.count == 2
    for number, content in enumerate((b".linux\0", b"kernel")):
        assert bytes(found.events[number])[:size] == hashlib.new(name, content).digest()


def test_only_what_was_loaded_before_the_sections_can_be_what_ran(core: Core) -> None:
    _, _, found = parse(core, build(EVENTS[5:]))
    assert not found.has_image
    _, _, found = parse(core, build([*EVENTS[:3], Event(4, 0x80000004, b"driver"), *EVENTS[5:]]))
    assert bytes(found.image)[:32] == hashlib.sha256(b"loader").digest()


@pytest.mark.parametrize("data", [event_log.FROM_NOWHERE, b"x" * 31, b"x"])
def test_what_shim_only_looked_at_is_no_image_that_ran(core: Core, data: bytes) -> None:
    """GRUB, `chainloader UKI; linux OTHER; boot`: OTHER has no valid signature, and UKI runs."""
    other = Event(4, APPLICATION, b"other", data)
    _, why, found = parse(core, build([*EVENTS[:4], other, *EVENTS[4:]]))
    assert (why, found.has_image) == (None, False)
    _, _, found = parse(core, build([*EVENTS[:3], other, *EVENTS[3:]]))
    assert found.has_image
    assert bytes(found.image)[:32] == hashlib.sha256(b"uki").digest()


def test_a_log_cut_anywhere_is_refused(core: Core) -> None:
    log = build(EVENTS)
    ends = {len(build(EVENTS[:number])) for number in range(len(EVENTS) + 1)}
    for size in range(len(log)):
        result, why, _ = parse(core, log[:size])
        assert (result == 0) == (size in ends), size
        assert (why is None) == (size in ends)


def test_where_it_is_wrong(core: Core) -> None:
    good = build(EVENTS[:3])
    _, why, found = parse(core, good + bytes(5))
    assert (found.at, why) == (len(good), CUT)


def test_another_endianness(core: Core) -> None:
    log = build(EVENTS)
    swapped = struct.pack(">II20xI", 0, 3, 37) + log[32:]
    assert refused(core, swapped) == "header: no little-endian log of a TPM 2.0"
    old = struct.pack("<II20sI", 0, 3, b"x" * 20, 4) + b"data"
    assert refused(core, old) == "header: no little-endian log of a TPM 2.0"
    assert refused(core, struct.pack("<II20sI", 4, 4, bytes(20), 4) + b"data") == (
        "header: no little-endian log of a TPM 2.0"
    )


OWN = [(4, 20), (0xB, 32)]
_SPEC = 'header: not "Spec ID Event03" of version 2'
_HEADERS = [
    (b"", "header: cut"),
    (header(OWN)[:-1], "header: cut"),
    (header(OWN, signature=b"Spec ID Event02"), _SPEC),
    (header(OWN, version=(0, 1)), _SPEC),
    (struct.pack("<II20xI", 0, 3, 27) + header(OWN)[32:59], _SPEC),
    (header([]), "header: not 1 to 8 algorithms"),
    (header(OWN, count=9), "header: not 1 to 8 algorithms"),
    (header(OWN, count=0xFFFFFFFF), "header: not 1 to 8 algorithms"),
    (header(OWN, count=4), "header: cut"),
    (header([(0xB, 32), (0x12, 0)]), "header: a digest that is not of 1 to 64 bytes"),
    (header([(0xB, 32), (0x12, 65)]), "header: a digest that is not of 1 to 64 bytes"),
    (header([(0xB, 32), (4, 20), (0xB, 32)]), "header: an algorithm is there twice"),
    (header([(0xB, 20)]), "header: another size of the bank's digests"),
    (header([(4, 20)]), "header: no digests of this bank"),
    (header(OWN, more=b"x"), "header: its size does not fit"),
    (header(OWN, vendor=b"12")[:28] + struct.pack("<I", 38) + header(OWN, vendor=b"12")[32:-1],
     "header: its size does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("log", "why"), _HEADERS)
def test_headers(core: Core, log: bytes, why: str) -> None:
    assert refused(core, log) == why


def test_an_unknown_algorithm_has_its_size_in_the_header(core: Core) -> None:
    start = header([(0xB, 32), (0x12, 32)], vendor=b"somebody")
    event = Event(11, IPL, {0x12: b"s" * 32, 0xB: b"d" * 32})
    result, why, found = parse(core, start + encode(event, ()))
    assert (result, why, bytes(found.events[0])[:32]) == (0, None, b"d" * 32)
    other = Event(11, IPL, {0x13: b"s" * 32, 0xB: b"d" * 32})
    assert refused(core, start + encode(other, ())) == (
        "an event with an algorithm that the header has not"
    )


def test_events(core: Core) -> None:
    start = header(OWN)
    plain = encode(Event(11, IPL, b"x"), [4, 0xB])
    for count in (3, 0xFFFFFFFF):
        wrong = plain[:8] + struct.pack("<I", count) + plain[12:]
        assert refused(core, start + wrong) == (
            "an event with more digests than there are algorithms"
        )
    twice = struct.pack("<III", 11, IPL, 2) + 2 * (b"\x0b\0" + bytes(32)) + bytes(4)
    assert refused(core, start + twice) == "an event with two digests of an algorithm"
    without = encode(Event(11, IPL, b"x"), [4])
    assert refused(core, start + without) == "an event without a digest of this bank"
    assert parse(core, start + encode(Event(7, IPL, b"x"), [4]))[0] == 0
    long = plain[:-4] + struct.pack("<I", 0xFFFFFFFF)
    assert refused(core, start + long) == CUT
    assert parse(core, start + 64 * plain)[0] == 0
    assert refused(core, start + 65 * plain) == "more than 64 events of PCR 11"


def test_the_largest(core: Core) -> None:
    start = header(OWN)
    most = core.lib.CFS_LOG_MAX
    room = most - len(start) - len(encode(Event(4, 1, b""), [4, 0xB]))
    log = start + encode(Event(4, 1, b"", bytes(room)), [4, 0xB])
    assert len(log) == most
    assert parse(core, log)[0] == 0
    assert refused(core, log + b"x") == "over 16 MiB"


def test_no_bank(core: Core) -> None:
    assert parse(core, build(EVENTS), 0x12)[:2] == (-errno.EPROTONOSUPPORT, None)


LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_logs_of_real_boots(core: Core, path: Path) -> None:
    """Of OVMF and swtpm, as tests/vm/test_proof.py leaves them in build/event-logs: what the TPM
    said then, and the UKI that ran. Files were loaded before and after it."""
    known = json.loads(path.with_suffix(".json").read_text())
    bank = event_log.BANKS[known["bank"]]
    size = event_log.SIZES[bank]
    result, why, found = parse(core, path.read_bytes(), bank)
    assert (result, why) == (0, None)
    for pcr, value in (("4", found.pcr_4), ("11", found.pcr_11)):
        assert bytes(value)[:size].hex() == known["pcrs"][pcr]
    assert bytes(found.image)[:size].hex() == known["image"]
    names = [hashlib.new(known["bank"], name + b"\0").digest() for name in (b".linux", b".initrd")]
    events = [bytes(found.events[number])[:size] for number in range(found.count)]
    assert set(names) < set(events)
    assert len(events) % 2 == 0


def test_there_are_logs_of_real_boots() -> None:
    assert len(LOGS) >= 2
