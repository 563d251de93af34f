# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import image_list

A, B = Digest(1, b"\xa1" * 32), Digest(2, b"\xb2" * 64)
LINE_A = f"digest=fsverity-sha256-12:{A.hex}\n".encode()
LINE_B = f"digest=fsverity-sha512-12:{B.hex}\n".encode()
ONE = b"cfsimg1\n" + LINE_A


def test_the_documented_bytes() -> None:
    assert image_list.parse(ONE, "x") == (A, "", False)
    assert image_list.parse(b"cfsimg1\nstore=/a\n" + LINE_B, "x") == (B, "/a", False)
    assert image_list.parse(ONE + b"store=/a\n", "x") == (A, "/a", False)
    assert image_list.parse(ONE + b"users=yes\nstore=/a\n", "x") == (A, "/a", True)
    assert image_list.parse(ONE + b"users=no\n", "x") == (A, "", False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"cfsimg1\n", "digest='', expected fsverity-sha256-12: or fsverity-sha512-12:"),
        (ONE[:-1], "no LF"),
        (b"cfsimg2\n" + LINE_A, "the first line is 'cfsimg2'"),
        (ONE + LINE_A, "digest is there twice"),
        (ONE + b"store=/a\nstore=/a\n", "store is there twice"),
        (ONE + b"store=a\n", "store='a', expected an absolute path"),
        (ONE + b"store=\n", "store='', expected an absolute path"),
        (ONE + b"verity=off\n", "unknown key 'verity', expected digest, store or users"),
        (ONE + b"users=1\n", "users='1', expected yes or no"),
        (ONE + b"users=\n", "users='', expected yes or no"),
        (ONE + b"users=no\nusers=yes\n", "users is there twice"),
        (ONE + b"\n", "line 3 is ''"),
        (ONE.replace(b"fsverity-", b""), "expected fsverity-sha256-12:"),
        (ONE.replace(b"a1\n", b"\n"), "wrong length"),
        (ONE.replace(b"a1", b"A1", 1), "lower-case"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Refused) as caught:
        image_list.parse(data, "the place")
    assert (caught.value.step, caught.value.path) == ("source", "the place")
    assert words in str(caught.value)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: ONE + tail))
def test_any_bytes_are_an_image_of_one_spelling_or_refused(data: bytes) -> None:
    try:
        digest, store, users = image_list.parse(data, "x")
    except Refused:
        return
    line = LINE_A if digest.algorithm == 1 else LINE_B
    head = line[: line.index(b":") + 1]
    lines = [head + digest.hex.encode(), *([b"store=" + store.encode()] if store else [])]
    lines += [b"users=yes"] if users else []
    given = [line for line in data.split(b"\n") if line != b"users=no"]
    assert sorted(given) == sorted([b"", b"cfsimg1", *lines])


NAMED = b"cfsapp1\na=" + LINE_A.removeprefix(b"digest=") + b"b.c=" + LINE_B.removeprefix(b"digest=")


def test_a_list_of_names() -> None:
    assert image_list.parse_names(NAMED, "cfsapp1", "x") == {"a": A, "b.c": B}
    assert image_list.parse_names(b"cfsapp1\n", "cfsapp1", "x") == {}


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: NAMED + tail))
def test_any_bytes_are_a_list_of_one_spelling_or_refused(data: bytes) -> None:
    try:
        found = image_list.parse_names(data, "cfsapp1", "x")
    except Refused:
        return
    assert list(found) == sorted(found)
    assert data.count(b"\n") == len(found) + 1
