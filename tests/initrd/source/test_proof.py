# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The TPM proves a file, or it is refused, and the step that failed is named."""

import _cfs
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import proof
from tests.core import event_log, pe_builder
from tests.core.event_log import APPLICATION, Event, of_boot, replay
from tests.core.pe_builder import Section

DIGEST = Digest(1, bytes(32))
SECTIONS = [(b".linux", b"kernel" * 9000), (b".cmdline", b"quiet")]


def uki(digest: Digest = DIGEST) -> bytes:
    sections = [Section(name, data) for name, data in SECTIONS]
    return pe_builder.build([*sections, Section(b".cfsdig", payload_write.write([digest]))])


OWN, OTHER = uki(), uki(Digest(1, b"o" * 32))


class Machine:
    """A TPM with these banks, whose log has what firmware and stub measured."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tpm, self.security, self.file = root / "tpm0", root / "security", root / "uki"
        (self.security / "tpm0").mkdir(parents=True)
        self.log = self.security / proof.LOG
        monkeypatch.setattr(proof, "TPM", str(self.tpm))
        self.file.write_bytes(OWN)
        self.measure(of_boot(OWN, SECTIONS))

    def measure(
        self,
        events: Sequence[Event],
        banks: Sequence[str] = ("sha1", "sha256"),
        values: Mapping[int, bytes] | None = None,
    ) -> None:
        """`values`: of PCRs, where they are others than those of the events."""
        self.log.write_bytes(event_log.build(events, [event_log.BANKS[name] for name in banks]))
        for bank in banks:
            (self.tpm / f"pcr-{bank}").mkdir(parents=True, exist_ok=True)
            for pcr in (4, 11):
                value = (values or {}).get(pcr, replay(events, pcr, bank))
                (self.tpm / f"pcr-{bank}/{pcr}").write_text(value.hex().upper() + "\n")

    def prove(self, profile: int = -1) -> list[Digest]:
        before = os.listdir("/proc/self/fd")
        fd, security = os.open(self.file, os.O_RDONLY), os.open(self.security, os.O_RDONLY)
        try:
            return proof.prove(fd, profile, "/dev/vda1:/a.efi", security).roots
        finally:
            os.close(fd)
            os.close(security)
            assert os.listdir("/proc/self/fd") == before

    def refused(self) -> str:
        with pytest.raises(Refused) as caught:
            self.prove()
        assert caught.value.step == "source"
        assert "not proved: " in str(caught.value)
        return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


HASH = r"[0-9a-f]{64}"


def test_it_is_proved(machine: Machine) -> None:
    assert machine.prove() == [DIGEST]


@pytest.mark.parametrize("bank", ["sha256", "sha384", "sha512"])
def test_the_bank_that_there_is(machine: Machine, tmp_path: Path, bank: str) -> None:
    for path in machine.tpm.rglob("*/*"):
        path.unlink()
    for path in machine.tpm.iterdir():
        path.rmdir()
    machine.measure(of_boot(OWN, SECTIONS, [event_log.BANKS[bank]]), [bank])
    assert machine.prove() == [DIGEST]
    machine.file.write_bytes(OTHER)
    assert f"Authenticode {bank} " in machine.refused()


def extended(events: Sequence[Event], pcr: int, word: bytes) -> bytes:
    return replay([*events, Event(pcr, 1, word)], pcr)


@pytest.mark.parametrize(("pcr", "word"), [(4, b"os-separator"), (11, b"enter-initrd")])
def test_what_systemd_extends_in_the_initrd(machine: Machine, pcr: int, word: bytes) -> None:
    """It is not in the log of the firmware. Once, and no other word, and not in the other PCR."""
    events = of_boot(OWN, SECTIONS)
    machine.measure(events, values={pcr: extended(events, pcr, word)})
    assert machine.prove() == [DIGEST]
    for wrong in (
        {15 - pcr: extended(events, 15 - pcr, word)},
        {pcr: extended([*events, Event(pcr, 1, word)], pcr, word)},
        {pcr: extended(events, pcr, b"leave-initrd")},
    ):
        machine.measure(events, values=wrong)
        assert re.search(rf"PCR \d+: not proved: {HASH}, expected {HASH} by", machine.refused())


def test_a_log_that_does_not_give_the_values(machine: Machine) -> None:
    events = of_boot(OWN, SECTIONS)
    for pcr in (4, 11):
        machine.measure(events, values={pcr: b"v" * 32})
        expected = f"PCR {pcr}: not proved: {(b'v' * 32).hex()}, expected "
        assert expected + replay(events, pcr).hex() in machine.refused()
    # One event is taken away, or put there.
    for changed in (events[:-1], events[:5] + events[6:], [*events, Event(4, 1, b"x")]):
        machine.measure(events)
        machine.log.write_bytes(event_log.build(changed))
        assert "by the event log (sha256)" in machine.refused()


def test_a_file_that_did_not_run(machine: Machine) -> None:
    """It was replaced since; or it was loaded, before and after the one that ran, and its sections
    are the same. Any of them would give another root."""
    machine.file.write_bytes(OTHER)
    image = event_log.authenticode(OWN).hex()
    text = machine.refused()
    assert f"Authenticode sha256 {event_log.authenticode(OTHER).hex()}, expected {image}" in text
    loaded = Event(4, APPLICATION, {n: event_log.authenticode(OTHER, b) for b, n in
                                    (("sha1", 4), ("sha256", 0xB))})  # fmt: skip
    events = of_boot(OWN, SECTIONS)
    own = next(at for at, event in enumerate(events) if not isinstance(event.digest, bytes))
    for at in (0, own, len(events)):
        machine.measure([*events[:at], loaded, *events[at:]])
        assert f"expected {image} of the image that ran" in machine.refused()
        machine.file.write_bytes(OWN)
        assert machine.prove() == [DIGEST]
        machine.file.write_bytes(OTHER)


def test_the_same_image_again(machine: Machine) -> None:
    """A stub may load itself once more (systemd 261)."""
    events = of_boot(OWN, SECTIONS)
    [again] = [event for event in events if not isinstance(event.digest, bytes)]
    machine.measure([*events, again])
    assert machine.prove() == [DIGEST]


def test_no_image_ran(machine: Machine) -> None:
    machine.measure([Event(11, 0xD, b".linux\0")])
    assert "PCR 4: not proved: the last application in it has no path" in machine.refused()


def test_what_shim_only_looked_at(machine: Machine) -> None:
    """The file with another root, by a boot menu that anybody can write: it is not signed, and has
    the sections of the one that runs."""
    machine.file.write_bytes(OTHER)
    loaded = {n: event_log.authenticode(OTHER, b) for b, n in (("sha1", 4), ("sha256", 0xB))}
    events = of_boot(OWN, SECTIONS)
    own = next(at for at, event in enumerate(events) if not isinstance(event.digest, bytes))
    looked = Event(4, APPLICATION, loaded, event_log.FROM_NOWHERE)
    machine.measure([*events[: own + 1], looked, *events[own + 1 :]])
    assert "PCR 4: not proved: the last application in it has no path" in machine.refused()
    # Nothing else tells it from a boot of that file.
    machine.measure([*events[: own + 1], Event(4, APPLICATION, loaded), *events[own + 1 :]])
    assert machine.prove() == [Digest(1, b"o" * 32)]


def test_sections_that_differ(machine: Machine) -> None:
    """Something else measured them: it ran unseen by the firmware, after this file was loaded."""
    machine.measure(of_boot(OWN, [SECTIONS[0], (b".cmdline", b"debug")]))
    assert ".cmdline: PCR 11 has another content of it" in machine.refused()


def test_no_section(machine: Machine) -> None:
    plain = pe_builder.build([Section(name, data) for name, data in SECTIONS])
    machine.file.write_bytes(plain)
    machine.measure(of_boot(plain, SECTIONS))
    assert "not proved: no section .cfsdig, expected one with the digest" in machine.refused()


def test_a_section_that_is_broken(machine: Machine) -> None:
    broken = pe_builder.build([Section(b".linux", b"k"), Section(b".cfsdig", b"cfsdig2\n")])
    machine.file.write_bytes(broken)
    machine.measure(of_boot(broken, [(b".linux", b"k")]))
    with pytest.raises(Refused, match="the first line is 'cfsdig2'"):
        machine.prove()


def test_a_log_that_is_cut_or_not_there(machine: Machine) -> None:
    log = machine.log.read_bytes()
    machine.log.write_bytes(log[:-1])
    assert "event log at byte " in machine.refused()
    machine.log.write_bytes(b"")
    place = "securityfs: tpm0/binary_bios_measurements"
    assert f"{place}: not proved: event log at byte 0: header: cut" in machine.refused()
    with machine.log.open("wb") as file:
        file.truncate(proof.LOG_MAX + 1)
    assert "More than 16777216 bytes (EFBIG), expected the event log" in machine.refused()
    machine.log.unlink()
    assert f"securityfs: {proof.LOG}: not proved: No such file" in machine.refused()


def test_no_tpm_and_a_bank_of_sha1_alone(machine: Machine) -> None:
    machine.measure([])
    for pcr in (4, 11):
        (machine.tpm / f"pcr-sha256/{pcr}").unlink()
    assert "no TPM 2.0 with a driver, or a bank of SHA-1 alone" in machine.refused()


def test_a_log_without_the_bank(machine: Machine) -> None:
    machine.log.write_bytes(event_log.build(of_boot(OWN, SECTIONS, [4]), [4]))
    assert "header: no digests of this bank" in machine.refused()


@pytest.mark.parametrize("text", ["", "x\n", "00\n", "\xff"])
def test_values_that_are_none(machine: Machine, text: str) -> None:
    (machine.tpm / "pcr-sha256/4").write_bytes(text.encode("latin-1"))
    assert "not proved: " in machine.refused()


def changing(machine: Machine, pcr: int) -> Callable[..., object]:
    def prove(*arguments: object) -> object:
        result = real(*arguments)  # type: ignore[arg-type]
        (machine.tpm / f"pcr-sha256/{pcr}").write_text("00" * 32)
        return result

    real = _cfs.uki_prove
    return prove


@pytest.mark.parametrize("pcr", [4, 11])
def test_a_value_that_changes_meanwhile(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, pcr: int
) -> None:
    monkeypatch.setattr("_cfs.uki_prove", changing(machine, pcr))
    assert f"PCR {pcr}: not proved: changed while the UKI was read" in machine.refused()


def test_a_tpm_that_fails(machine: Machine) -> None:
    path = machine.tpm / "pcr-sha256/11"
    path.unlink()
    path.mkdir()
    assert f"{path}: not proved: Is a directory (EISDIR), expected the value" in machine.refused()


def test_a_file_that_is_no_uki(machine: Machine) -> None:
    machine.file.write_bytes(b"MZ" + bytes(2000))
    assert "DOS header: e_lfanew below 64" in machine.refused()
