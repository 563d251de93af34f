# SPDX-License-Identifier: Apache-2.0 OR MIT
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report.errors import EXIT_USAGE, UsageError
from pyinit.initrd.root.digest import Digest
from tests.initrd.harness import MALFORMED, any_text, digests, is_one_printable_line

PREFIXES = {1: ("", "sha256:", "fsverity-sha256-12:"), 2: ("", "sha512:", "fsverity-sha512-12:")}
SPELLING = re.compile(
    r"(?:(?:sha256:|fsverity-sha256-12:)?[0-9a-f]{64}"
    r"|(?:sha512:|fsverity-sha512-12:)?[0-9a-f]{128})"
)


@given(digests, st.integers(0, 2), st.booleans())
def test_round_trip_of_each_spelling(digest: Digest, prefix: int, as_bytes: bool) -> None:
    text = PREFIXES[digest.algorithm][prefix] + digest.value.hex()
    found = Digest.parse(text.encode() if as_bytes else text, "--digest")
    assert found == digest
    assert found.pair == (digest.algorithm, digest.value)
    assert Digest.parse(str(found), "--digest") == digest
    assert Digest.parse(found.hex, "--digest") == digest


def test_what_is_wrong_is_shown_as_it_is_there() -> None:
    for text in ("zz", b"zz"):
        with pytest.raises(UsageError, match=r"wrong length \(2 characters: 'zz'\)"):
            Digest.parse(text, "--digest")


def test_the_names() -> None:
    one, two = Digest(1, b"\xab" * 32), Digest(2, b"\xcd" * 64)
    assert (one.hex, str(one)) == ("ab" * 32, "sha256:" + "ab" * 32)
    assert (two.hex, str(two)) == ("cd" * 64, "sha512:" + "cd" * 64)
    assert repr(one) == f"Digest(sha256:{'ab' * 32})"


@given(digests, digests, st.integers(0, 511))
def test_equal_where_algorithm_and_all_bytes_are(a: Digest, b: Digest, bit: int) -> None:
    assert (a == b) == (a.pair == b.pair)
    assert a == Digest(*a.pair)
    assert hash(a) == hash(Digest(*a.pair))
    changed = bytearray(a.value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    assert a != Digest(a.algorithm, bytes(changed))
    assert a != a.pair
    assert a != a.hex


@pytest.mark.parametrize(
    "pair", [(1, b""), (2, b""), (0, b"x" * 32), (3, b"x" * 32), (1, b"x" * 64), (2, b"x" * 32)]
)
def test_what_is_no_digest_equals_nothing(pair: tuple[int, bytes]) -> None:
    assert Digest(*pair) != Digest(*pair)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Digest.parse(text, "--digest")
    assert caught.value.code == EXIT_USAGE
    assert (caught.value.step, caught.value.path) == ("usage", "--digest")
    assert caught.value.expected == "64 (sha256) or 128 (sha512) lower-case hex digits"
    assert is_one_printable_line(str(caught.value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty digest, expected"),
        ("abc", "a digest of the wrong length (3 characters: 'abc')"),
        ("\udcff\n", r"a digest of the wrong length (2 characters: '\udcff\n')"),
        ("sha1:" + "a" * 40, "an unknown prefix (45 characters: 'sha1:aaa"),
        ("g" * 64, "a character that is not a lower-case hex digit (64 characters"),
        ("\u00e9" * 64, "a character that is not a lower-case hex digit (64 characters"),
    ],
)
def test_the_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Digest.parse(text, "--digest")
    assert words in str(caught.value)


def test_bytes_are_shown_too_and_no_more_than_a_line() -> None:
    with pytest.raises(UsageError) as caught:
        Digest.parse(b"\xff" * 1_000_000, "--digest")
    assert "1000000 characters" in str(caught.value)
    assert len(str(caught.value)) < 1200


@given(any_text | st.text("0123456789abcdef:sh-", max_size=140) | st.from_regex(SPELLING))
def test_any_text_is_a_digest_of_a_known_spelling_or_a_usage_error(text: str) -> None:
    try:
        found, said = Digest.parse(text, "--digest"), ""
    except UsageError as error:
        found, said = None, str(error)
    assert is_one_printable_line(said)
    assert bool(SPELLING.fullmatch(text)) == (found is not None)
    assert found is None or found.hex == text.rpartition(":")[2]
