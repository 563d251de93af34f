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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyinit.host.uki import authenticode
from pyinit.host.uki.read import Uki, read_file
from pyinit.initrd.machine.tpm_message import ALGORITHMS as TPM_ALGORITHMS
from pyinit.initrd.root.digest import ALGORITHMS, Digest

BANKS = tuple(TPM_ALGORITHMS)
LOADER_PCR, UKI_PCR = 4, 11

PHASES = (
    ("enter-initrd",),
    ("enter-initrd", "leave-initrd"),
    ("enter-initrd", "leave-initrd", "sysinit"),
    ("enter-initrd", "leave-initrd", "sysinit", "ready"),
)
"""What systemd extends PCR 11 by on the way, from its first unit in the initrd on."""

# In the order in which the stub measures them. It measures no others.
_SECTIONS = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids", ".efifw",
)  # fmt: skip
# Which one of several is taken, and whether any, the machine decides.
_BY_MACHINE = (".dtbauto", ".efifw")

# systemd-stub of these versions has the firmware load the kernel out of the UKI. Without Secure
# Boot, the firmware measures it as any program; with it, the stub answers in the firmware's place.
_LOADED_BY_FIRMWARE = range(252, 258)
_STUB = re.compile(rb"#### LoaderInfo: systemd-stub ((\d+)[^ ]*) ####")


@dataclass(frozen=True)
class Event:
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


@dataclass(frozen=True)
class Moment:
    """The value of a PCR at some point of the boot, by bank."""

    after: str
    values: dict[str, bytes]


@dataclass
class Prediction:
    """A PCR on its way. `image`: the root that is composed, where its value depends on that."""

    pcr: int
    banks: Sequence[str]
    image: Digest | None = None
    events: list[Event] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

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
        index = _find(uki, ".linux", profile)
        assert index is not None  # else it is no Uki
        where = f"{uki.path}: .linux"
        pcr.extend(Event(where, authenticode.digests(uki.view(index), banks, where)))
    pcr.reach("the kernel")
    if os_separator:
        pcr.extend(Event.of("os-separator", [b"os-separator"], banks, common=True))
        pcr.reach("os-separator")
    return pcr


def sections(
    uki: Uki, banks: Sequence[str], *, profile: int, phases: Iterable[Sequence[str]]
) -> Prediction:
    """PCR 11: the stub's measurements, and then each of `phases`. Refused: it depends on the
    machine."""
    pcr = Prediction(UKI_PCR, banks)
    for name in _SECTIONS:
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
) -> Prediction:
    """The PCR of the root, where nothing else extends it: before switch-root, and then after each
    soft reboot into one of these images was prepared."""
    pcr = Prediction(pcr_number, banks, image)
    _measure(pcr, image, source)
    pcr.reach("the root")
    for number, other in enumerate(soft_reboots, 1):
        _measure(pcr, other, "soft-reboot")
        pcr.reach(f"soft reboot {number}")
    return pcr


def _measure(pcr: Prediction, image: Digest, source: str) -> None:
    text = f"composefs:/:{ALGORITHMS[image.algorithm]}:{image.hex}:{source}"
    pcr.extend(Event.of(text, [text.encode("ascii")], pcr.banks))


def _find(uki: Uki, name: str, profile: int) -> int | None:
    """As the stub takes it: a profile's own section, or else the base's."""
    own = uki.find(name, profile)
    return own if own is not None or profile == _cfs.PE_BASE else uki.find(name)
