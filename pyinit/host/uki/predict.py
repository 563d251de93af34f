# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What PCRs of the TPM will hold once a UKI was booted: the firmware's 4, the stub's 11, and that
of the root.

A PCR begins with zeros. An extension makes the hash of its value and of a digest its new value, in
each bank by the bank's own algorithm. Sources: TCG, PC Client Platform Firmware Profile (PCR 4);
UAPI, Unified Kernel Image (PCR 11); docs/howto/tpm.md (the root).
"""

from __future__ import annotations

import _cfs
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pyinit.host.uki import authenticode
from pyinit.host.uki.read import Uki, read_file
from pyinit.initrd.machine.tpm_message import ALGORITHMS as TPM_ALGORITHMS
from pyinit.initrd.root.digest import ALGORITHMS, Digest
from pyinit.initrd.root.extension import place_of
from pyinit.initrd.source.payload import INITRD

BANKS = tuple(TPM_ALGORITHMS)
LOADER_PCR, UKI_PCR = 4, 11

PHASES = (
    ("enter-initrd",),
    ("enter-initrd", "leave-initrd"),
    ("enter-initrd", "leave-initrd", "sysinit"),
    ("enter-initrd", "leave-initrd", "sysinit", "ready"),
)
"""What systemd extends PCR 11 by on the way, from its first unit in the initrd on."""

# What systemd-stub measures into PCR 11, in this order, and from which version on. Compared with
# the names that are in 252, 254, 255, 257 and 262.
_SECTIONS = {
    ".linux": 252, ".osrel": 252, ".cmdline": 252, ".initrd": 252, ".ucode": 256, ".splash": 252,
    ".dtb": 252, ".uname": 254, ".sbat": 254, ".pcrpkey": 252, ".profile": 257, ".dtbauto": 257,
    ".hwids": 257, ".efifw": 258,
}  # fmt: skip
NEWEST_STUB = 262
_PROFILES = 257  # its first version that knows them
# Which one of several is taken, and whether any, the machine decides.
_BY_MACHINE = (".dtbauto", ".efifw")

# systemd-stub of these versions has the firmware load the kernel out of the UKI. Without Secure
# Boot, the firmware measures it as any program; with it, the stub answers in the firmware's place.
_LOADED_BY_FIRMWARE = range(252, 258)
_STUB = re.compile(rb"#### LoaderInfo: systemd-stub ((\d+)[^ ]*) ####")


class Event(NamedTuple):
    """One extension. `digests`: by bank. `common`: whichever UKI is booted, so that systemd-pcrlock
    has it from elsewhere."""

    what: str
    digests: dict[str, bytes]
    common: bool = False

    @classmethod
    def of(
        cls, what: str, pieces: Iterable[bytes | memoryview], banks: Sequence[str],
        common: bool = False,
    ) -> Event:  # fmt: skip
        """By the hash of these bytes."""
        hashes = {bank: hashlib.new(bank) for bank in banks}
        for piece in pieces:
            for each in hashes.values():
                each.update(piece)
        return cls(what, {bank: each.digest() for bank, each in hashes.items()}, common)


class Moment(NamedTuple):
    """The value of a PCR at some point of the boot, by bank."""

    after: str
    values: dict[str, bytes]


class Prediction:
    """A PCR on its way. `image`: the root that is composed, where its value depends on that."""

    def __init__(self, pcr: int, banks: Sequence[str], image: Digest | None = None) -> None:
        self.pcr = pcr
        self.banks = banks
        self.image = image
        self.events: list[Event] = []
        self.moments: list[Moment] = []

    def extend(self, event: Event) -> None:
        """The next event."""
        self.events.append(event)

    def reach(self, after: str, more: Iterable[Event] = ()) -> None:
        """A moment after all events so far, and after `more`, which stay out of the others."""
        values = {bank: bytes(hashlib.new(bank).digest_size) for bank in self.banks}
        for event in (*self.events, *more):
            for bank in self.banks:
                values[bank] = hashlib.new(bank, values[bank] + event.digests[bank]).digest()
        self.moments.append(Moment(after, values))


def stub(uki: Uki) -> tuple[str, int] | None:
    """The version of systemd-stub in it, as text and its first number; None: it is another one."""
    index = uki.find(".sdmagic")
    found = None if index is None else _STUB.search(uki.content(index))
    return None if found is None else (found[1].decode("ascii", "replace"), int(found[2]))


def kernel_is_measured(uki: Uki, secure_boot: bool) -> bool:
    """Does the firmware measure the kernel too, beside the UKI that it lies in?"""
    version = stub(uki)
    return version is not None and version[1] in _LOADED_BY_FIRMWARE and not secure_boot


def boot_loader(
    uki: Uki,
    loaders: Sequence[Path],
    banks: Sequence[str],
    *,
    profile: int,
    secure_boot: bool,
    os_separator: bool,
) -> Prediction:
    """PCR 4, where the firmware starts the first of `loaders`, or the UKI, at its first attempt,
    and each starts the next. `os_separator`: the initrd has systemd 261 or later, which closes it.
    """
    pcr = Prediction(LOADER_PCR, banks)
    action = b"Calling EFI Application from Boot Option"
    pcr.extend(Event.of(f"EV_EFI_ACTION {action.decode()}", [action], banks, common=True))
    pcr.extend(Event.of("EV_SEPARATOR", [bytes(4)], banks, common=True))
    for path in loaders:
        where = str(path)
        pcr.extend(Event(where, authenticode.digests(read_file(path), banks, where)))
    where = str(uki.path)
    pcr.extend(Event(where, authenticode.digests(uki.data, banks, where)))
    if kernel_is_measured(uki, secure_boot):
        where = f"{uki.path}: .linux"
        kernel = uki.view(_kernel(uki, profile))
        pcr.extend(Event(where, authenticode.digests(kernel, banks, where)))
    pcr.reach("the kernel")
    if os_separator:
        pcr.extend(Event.of("os-separator", [b"os-separator"], banks, common=True))
        pcr.reach("os-separator")
    return pcr


def sections(
    uki: Uki, banks: Sequence[str], *, profile: int, phases: Iterable[Sequence[str]]
) -> Prediction:
    """PCR 11: what the stub's version measures, and then each of `phases`. A stub that is not
    systemd's is taken for NEWEST_STUB. Refused: it depends on the machine, or nothing is measured.
    """
    pcr = Prediction(UKI_PCR, banks)
    version = _version(uki)
    if version < min(_SECTIONS.values()):
        raise uki.refused(
            f"its stub, systemd {version}, measures no section into PCR 11",
            "a stub of 252 or later, or --pcr without 11",
        )
    _kernel(uki, profile)
    for name, since in _SECTIONS.items():
        if version < since:
            continue
        if name in _BY_MACHINE and any(section.name == name for section in uki.sections):
            raise uki.refused(
                f"section {name}: the machine decides which one is measured into PCR 11",
                "a UKI without it, or --pcr without 11",
            )
        index = _find(uki, name, profile)
        if index is None:
            continue
        pcr.extend(Event.of(f"{name} (its name)", [name.encode() + b"\0"], banks))
        pcr.extend(Event.of(name, [uki.view(index)], banks))
    for phase in phases:
        more = [Event.of(word, [word.encode()], banks) for word in phase]
        pcr.reach(":".join(phase) or "the stub", more)
    return pcr


def root(
    pcr_number: int,
    image: Digest,
    source: str,
    banks: Sequence[str],
    soft_reboots: Iterable[Digest] = (),
    *,
    others: Mapping[str, Digest] | None = None,
) -> Prediction:
    """The PCR of the root and of the other images that the UKI names, by their keys, where nothing
    else extends it: before switch-root, and then after each soft reboot into one of these images
    was prepared. A second initrd comes before the root, which it composes."""
    named = dict(others or {})
    pcr = Prediction(pcr_number, banks, image)
    if INITRD in named:
        _measure(pcr, named.pop(INITRD), source, INITRD)
        pcr.reach("the second initrd")
    _measure(pcr, image, source)
    for key, digest in named.items():
        _measure(pcr, digest, source, place_of(key))
    pcr.reach("the root")
    for number, other in enumerate(soft_reboots, 1):
        _measure(pcr, other, "soft-reboot")
        pcr.reach(f"soft reboot {number}")
    return pcr


def _measure(pcr: Prediction, image: Digest, source: str, place: str = "/") -> None:
    text = f"composefs:{place}:{ALGORITHMS[image.algorithm]}:{image.hex}:{source}"
    pcr.extend(Event.of(text, [text.encode("ascii")], pcr.banks))


def check_profile(uki: Uki, profile: int) -> None:
    """Refused: the UKI does not boot in this profile. An old stub takes sections by their names,
    and does not see to which profile they belong."""
    version = _version(uki)
    if profile != _cfs.PE_BASE and version < _PROFILES:
        raise uki.refused(f"its stub, systemd {version}, knows no profiles", "257 or later")
    _kernel(uki, profile)


def _version(uki: Uki) -> int:
    found = stub(uki)
    return NEWEST_STUB if found is None else found[1]


def _kernel(uki: Uki, profile: int) -> int:
    index = _find(uki, ".linux", profile)
    if index is None:
        raise uki.refused(f"no .linux section for profile {profile}", "a profile with a kernel")
    return index


def _find(uki: Uki, name: str, profile: int) -> int | None:
    """As the stub takes it: a profile's own section, or else the base's."""
    own = uki.find(name, profile)
    return own if own is not None or profile == _cfs.PE_BASE else uki.find(name)
