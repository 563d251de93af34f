# SPDX-License-Identifier: Apache-2.0 OR MIT
import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.machine import modalias


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "", False),
        ("*", "", True),
        ("**", "abc", True),
        ("?", "", False),
        ("?", "a", True),
        ("virtio:d00000002v*", "virtio:d00000002v00001AF4", True),
        ("virtio:d00000002v*", "virtio:d00000003v00001AF4", False),
        ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv0sd0bc01sc08i02", True),
        ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv0sd0bc01sc06i02", False),
        ("usb:d0[0-9]*dc", "usb:d07xxdc", True),
        ("usb:d0[0-9]*dc", "usb:d0axxdc", False),
        ("[!0-9]", "a", True),
        ("[!0-9]", "5", False),
        ("[]a]", "]", True),
        ("[a-]", "-", True),
        ("[a-]", "b", False),
        ("[ace]", "b", False),
        ("[a0-9]", "a", True),
        ("[0-9a]", "5", True),
        ("[abc", "[abc", True),  # no end: it stands for itself
        ("[abc", "a", False),
        ("a*b*c", "aXbXbXc", True),
        ("a*b*c", "aXcXb", False),
        ("*a", "aab", False),
        ("aa*a", "aa", False),  # what stands before and behind does not overlap
        ("a*b*b", "ab", False),
        ("a*b*b", "abb", True),
        ("a*b*c", "acb", False),
        ("cpu:ven*fam*:feature:*0089*", "cpu:ven0000fam0006:feature:,0080,0089,0091", True),
        ("cpu:ven*fam*:feature:*0089*", "cpu:ven0089fam0006:feature:,0080,0091", False),
    ],
)
def test_match(pattern: str, text: str, expected: bool) -> None:
    assert modalias.match(pattern, text) is expected


parts = st.lists(st.sampled_from(["*", "?", "a", "b", ":", "[ab]", "[!a]", "[a-c]", "[b]"]))


@given(parts.map("".join), st.text("abc:", max_size=12))
def test_as_fnmatch(pattern: str, text: str) -> None:
    assert modalias.match(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("pci:v1d*", "pci:v1d"), ("a?b", "a"), ("a[b]", "a"), ("fs-x", "fs-x")],
)
def test_the_prefix(pattern: str, expected: str) -> None:
    assert modalias.prefix(pattern) == expected


@given(parts.map("".join), st.text("abc:", max_size=12))
def test_prefix_never_hides_a_match(pattern: str, text: str) -> None:
    if modalias.match(pattern, text):
        assert text.startswith(modalias.prefix(pattern))


@given(st.text("*?[]!^-ab", max_size=12), st.text("[]-ab!^", max_size=8))
def test_any_pattern(pattern: str, text: str) -> None:
    modalias.match(modalias.normal(pattern), text)


class Counted(str):
    """Counts how often a character is looked at."""

    __slots__ = ()
    looks = 0

    def __getitem__(self, key: object) -> str:
        Counted.looks += 1
        return super().__getitem__(key)  # type: ignore[index]


def test_no_exponential_time() -> None:
    pattern = "*[a]" * 50 + "b"
    text = Counted("a" * 500)
    assert not modalias.match(pattern, text)
    assert Counted.looks <= 2 * len(pattern) * len(text)


def test_dashes_are_underscores_outside_ranges() -> None:
    assert modalias.normal("crypto-crc32c") == "crypto_crc32c"
    assert modalias.normal("scsi:t-0x00*") == "scsi:t_0x00*"
    assert modalias.normal("a-b[0-9]c-d[x-z]-") == "a_b[0-9]c_d[x-z]_"
