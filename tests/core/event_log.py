# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Event logs of a TPM 2.0, and what a boot of a UKI leaves there. Format: TCG, PC Client Platform
Firmware Profile."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BANKS = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C, "sha512": 0x0D}  # TPM_ALG_ID
SIZES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64}

NO_ACTION, SEPARATOR, IPL = 3, 4, 0xD
# UEFI_IMAGE_LOAD_EVENT: from a path (which here has its end alone), and from none.
FROM_PATH, FROM_NOWHERE = (struct.pack("<4Q", 0, 0, 0, len(path)) + path
                           for path in (b"\x7f\xff\4\0", b""))  # fmt: skip
ACTION, APPLICATION, DRIVER = 0x80000007, 0x80000003, 0x80000004


@dataclass(frozen=True)
class Event:
    """`digest` says what is hashed for each bank, or what each bank has. `data`: of an application
    it is that of an image from a path, if nothing else is given."""

    pcr: int
    kind: int
    digest: bytes | Mapping[int, bytes]
    data: bytes = b""


def header(
    algorithms: Sequence[tuple[int, int]],
    *,
    vendor: bytes = b"",
    signature: bytes = b"Spec ID Event03",
    version: tuple[int, int] = (0, 2),
    count: int | None = None,
    more: bytes = b"",
) -> bytes:
    spec = signature.ljust(16, b"\0") + struct.pack("<IBBBB", 0, *version, 0, 2)
    spec += struct.pack("<I", len(algorithms) if count is None else count)
    spec += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms)
    spec += bytes([len(vendor)]) + vendor + more
    return struct.pack("<II20xI", 0, NO_ACTION, len(spec)) + spec


def digests(event: Event, banks: Sequence[int]) -> dict[int, bytes]:
    """Of each bank."""
    if not isinstance(event.digest, bytes):
        return dict(event.digest)
    names = {number: name for name, number in BANKS.items()}
    return {bank: hashlib.new(names[bank], event.digest).digest() for bank in banks}


def encode(event: Event, banks: Sequence[int]) -> bytes:
    found = digests(event, banks)
    text = struct.pack("<III", event.pcr, event.kind, len(found))
    text += b"".join(struct.pack("<H", bank) + value for bank, value in found.items())
    data = event.data or (FROM_PATH if event.kind == APPLICATION else b"")
    return text + struct.pack("<I", len(data)) + data


def build(events: Sequence[Event], banks: Sequence[int] = (4, 0xB)) -> bytes:
    start = header([(bank, SIZES[bank]) for bank in banks])
    return start + b"".join(encode(event, banks) for event in events)


def replay(events: Sequence[Event], pcr: int, bank: str = "sha256") -> bytes:
    """By libcrypto."""
    value = bytes(SIZES[BANKS[bank]])
    for event in events:
        if event.pcr == pcr and event.kind != NO_ACTION:
            digest = digests(event, [BANKS[bank]])[BANKS[bank]]
            value = hashlib.new(bank, value + digest).digest()
    return value


def authenticode(uki: bytes, bank: str = "sha256") -> bytes:
    """As firmware adds it up: headers, sections by their place, what is left. For small PE32+."""
    (at,) = struct.unpack_from("<I", uki, 60)
    count, size = struct.unpack_from("<H12xH", uki, at + 6)
    optional = at + 24
    directory = optional + (112 if uki[optional : optional + 2] == b"\x0b\x02" else 96) + 32
    (headers,) = struct.unpack_from("<I", uki, optional + 60)
    _, length = struct.unpack_from("<II", uki, directory)
    found = hashlib.new(bank, uki[: optional + 64])
    found.update(uki[optional + 68 : directory])
    found.update(uki[directory + 8 : headers])
    table = [struct.unpack_from("<II", uki, optional + size + 40 * n + 16) for n in range(count)]
    total = headers
    for raw, pointer in sorted(table, key=lambda entry: entry[1]):
        if raw:
            found.update(uki[pointer : pointer + raw])
            total += raw
    found.update(uki[total : len(uki) - length])
    return found.digest()


def of_boot(
    uki: bytes, sections: Sequence[tuple[bytes, bytes]], banks: Sequence[int] = (4, 0xB)
) -> list[Event]:
    """What firmware and stub measure when they start this file, whose sections are these, and then
    the kernel in it. Another was loaded before."""
    names = {number: name for name, number in BANKS.items()}
    image = {bank: authenticode(uki, names[bank]) for bank in banks}
    pairs = [(name + b"\0", data) for name, data in sections]
    return [
        Event(0, NO_ACTION, bytes(20), b"StartupLocality\0\3"),
        Event(0, SEPARATOR, b"\0\0\0\0", b"\0\0\0\0"),
        Event(4, ACTION, b"Calling EFI Application from Boot Option", b"Calling"),
        Event(4, SEPARATOR, b"\0\0\0\0", b"\0\0\0\0"),
        Event(4, APPLICATION, b"a boot loader"),
        Event(4, APPLICATION, image),
        Event(12, IPL, b"profile"),
        *(Event(11, IPL, part, b"text") for pair in pairs for part in pair),
        Event(4, DRIVER, b"a driver"),
        Event(4, APPLICATION, b"an add-on"),
        Event(4, APPLICATION, b"the kernel"),
    ]
