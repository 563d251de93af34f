# SPDX-License-Identifier: Apache-2.0 OR MIT
import contextlib
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import handed_over
from pyinit.initrd.source.payload import Payload

ROOT, INITRD = Digest(1, b"\xa1" * 32), Digest(1, b"\xb2" * 32)
FACTS = {
    "source": "carried", "level": "carried", "uki": "unproved, equal: /dev/vda1:/EFI/Linux/a.efi",
    "secure_boot": "on", "command_line": "unproved, in the UKI",
}  # fmt: skip
NAMED = Payload([ROOT], {"initrd": INITRD, "sysext.a": ROOT})
DATA = handed_over.write(FACTS, NAMED)

texts = st.text(st.characters(min_codepoint=1, max_codepoint=0x10FFFF), max_size=40)


def test_what_is_written() -> None:
    expected = (
        "cfshand1\nsource=carried\nlevel=carried\n"
        "uki=unproved, equal: /dev/vda1:/EFI/Linux/a.efi\n"
        "secure_boot=on\ncommand_line=unproved, in the UKI\n"
        f"rootfs=fsverity-sha256-12:{ROOT.hex}\ninitrd=fsverity-sha256-12:{INITRD.hex}\n"
        f"sysext.a=fsverity-sha256-12:{ROOT.hex}\n"
    )
    assert DATA.decode() == expected
    assert handed_over.parse(DATA) == (FACTS, NAMED)


@given(st.fixed_dictionaries(dict.fromkeys(FACTS, texts)))
def test_any_facts_come_as_they_may_be_printed(facts: dict[str, str]) -> None:
    found, named = handed_over.parse(handed_over.write(facts, NAMED))
    assert named == NAMED
    assert list(found) == list(FACTS)
    assert all(value.isprintable() for value in found.values())


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_a_bit_that_flips_is_refused_or_another_value(at: int, bit: int) -> None:
    data = bytearray(DATA)
    data[at] ^= 1 << bit
    found = None
    with contextlib.suppress(Refused):
        found = handed_over.parse(bytes(data))
    assert found != (FACTS, NAMED)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "it is empty"),
        (b"cfsdig1\n", "cfsdig1"),
        (DATA[:-1], "the last line has no LF"),
        (DATA.replace(b"level=", b"lever="), "other keys"),
        (DATA.replace(b"level=carried\n", b""), "other keys"),
        (DATA.replace(b"source=carried\nlevel=carried\n", b"level=x\nsource=x\n"), "other keys"),
        (DATA.replace(b"sysext.a", b"insecure"), "unknown key 'insecure'"),
        (b"".join(DATA.splitlines(keepends=True)[:6]), "0 digests"),
        (b"cfshand1\n", "other keys"),
    ],
)  # fmt: skip
def test_what_is_none(data: bytes, found: str) -> None:
    with pytest.raises(Refused, match=found) as caught:
        handed_over.parse(data)
    assert (caught.value.step, caught.value.path) == ("source", "/run/cfs/first-initrd")


class Machine:
    """The file, and the image that the running root is."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.data: bytes | int = DATA
        self.root: Digest | None = INITRD
        patch.setattr(files, "read", self._read)
        patch.setattr(compose, "mounted_at", lambda path: {"/": self.root}[path])

    def _read(self, path: str, limit: int) -> bytes:
        assert (path, limit) == (handed_over.PATH, handed_over.MAX)
        if isinstance(self.data, int):
            raise OSError(self.data, os.strerror(self.data))
        return self.data


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_counts_in_the_image_that_it_names(machine: Machine) -> None:
    facts, named = handed_over.load()
    assert (facts, list(named.others)) == (FACTS, ["sysext.a"])


@pytest.mark.parametrize(
    ("root", "found"), [(None, "no composed image"), (ROOT, f"sha256:{ROOT.hex}")]
)
def test_nowhere_else(machine: Machine, root: Digest | None, found: str) -> None:
    """Whoever can add a file to /run of another initrd could name a root."""
    machine.root = root
    with pytest.raises(Refused) as caught:
        handed_over.load()
    expected = f"{INITRD}, as /run/cfs/first-initrd has it"
    assert str(caught.value) == f"refused: source: /: {found}, expected {expected}"


def test_one_that_names_no_second_initrd_counts_nowhere(machine: Machine) -> None:
    machine.data = handed_over.write(FACTS, Payload([ROOT]))
    for machine.root in (None, INITRD, ROOT):
        with pytest.raises(Refused, match="it names no second initrd, expected initrd="):
            handed_over.load()


def test_none_and_one_that_cannot_be_read(machine: Machine) -> None:
    assert handed_over.is_there()
    machine.data = errno.ENOENT
    assert not handed_over.is_there()
    with pytest.raises(Refused, match=r"No such file.*, expected a second initrd that init of a"):
        handed_over.load()
    machine.data = errno.EFBIG
    assert handed_over.is_there()
    with pytest.raises(Refused, match="EFBIG"):
        handed_over.load()
