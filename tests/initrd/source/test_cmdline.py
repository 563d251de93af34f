# SPDX-License-Identifier: Apache-2.0 OR MIT
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source import cmdline

A = "a1" * 32
B = "b2" * 32
C = "c3" * 64


# What next_arg() of lib/cmdline.c does, Linux 6.12, with each line.
@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        (b"", []),
        (b" \t\n\v\f\r ", []),
        (b"quiet", [("quiet", None)]),
        (b"root=/dev/vda1 ro", [("root", "/dev/vda1"), ("ro", None)]),
        (b"  a   b\tc\n", [("a", None), ("b", None), ("c", None)]),
        (b"init=", [("init", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"=a", [("=a", None)]),  # an "=" in the first place is part of the name
        (b"=a=b", [("=a", "b")]),
        (b'a="b c"', [("a", "b c")]),
        (b'a="b c" d', [("a", "b c"), ("d", None)]),
        (b'"a=b c" d', [("a", "b c"), ("d", None)]),
        (b'"a b" c', [("a b", None), ("c", None)]),
        (b'"a b"=c', [('a b"', "c")]),
        (b'a=b" "c', [("a", 'b" "c')]),  # inside, the quotes stay
        (b'a=b" c"', [("a", 'b" c"')]),
        (b'a="b"c', [("a", 'b"c')]),
        (b'a="b" "c"', [("a", "b"), ("c", None)]),
        (b'a=""', [("a", "")]),
        (b'a="', [("a", "")]),
        (b'a="b c', [("a", "b c")]),
        (b'a="b c\n', [("a", "b c\n")]),
        (b'"a="b""', [("a", 'b"')]),  # one quote goes, not both
        (b'"', [("", None)]),
        (b'""', [("", None)]),
        (b'"a b', [("a b", None)]),
        (b'a"b"', [('a"b"', None)]),
        (b'"" a', [("", None), ("a", None)]),
        (b'a"b c"d', [('a"b c"d', None)]),
        (b"a='b c'", [("a", "'b"), ("c'", None)]),
        (b"a\\ b", [("a\\", None), ("b", None)]),
        (b"a=\xff", [("a", "\udcff")]),
        (b"a=\xc3\xa9", [("a", "é")]),
        (b"a=\xc3\xa0b", [("a", "\udcc3"), ("b", None)]),  # 0xA0 is white space
        (b"a\0b", [("a", None)]),
    ],
)
def test_cut_as_the_kernel_does(line: bytes, parameters: list[tuple[str, str | None]]) -> None:
    assert cmdline.parse(line).parameters == parameters


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b"a -- b c=d", ["a"]),
        (b"a --", ["a"]),
        (b"-- a", []),
        (b'a "--" b', ["a"]),
        (b"a --b c", ["a", "--b", "c"]),
        (b"a --=x b", ["a", "--", "b"]),
        (b"a -- b -- c", ["a"]),
    ],
)
def test_two_dashes_end_the_kernels_parameters(line: bytes, names: list[str]) -> None:
    found = cmdline.parse(line)
    assert [name for name, _ in found.parameters] == names


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        (b"quiet a=b.c -- d.e=f", []),
        (b"a.b", [("a", b"b")]),
        (b"x a-b.c-d=e-f y", [("a_b", b"c-d=e-f")]),
        (b"a.b=1 c.d a.b=2", [("a", b"b=1"), ("c", b"d"), ("a", b"b=2")]),
        (b"a.b=c.d=e", [("a", b"b=c.d=e")]),
        (b'a.b="c d" e.f', [("a", b'b="c d"'), ("e", b"f")]),
        (b'"a.b=c d"', [("a", b'"b=c d"')]),
        (b'"a.b="c""', [("a", b'"b="c""')]),
        (b'a.b=c" "d', [("a", b'b=c" "d')]),
        (b'a.b="c d', [("a", b'b="c d')]),
        (b"a.b=\xff", [("a", b"b=\xff")]),
        # No names, as modprobe sees it.
        (b".a=b a.=b a. . a.b.c=d", []),
        (b'a."b c"=d "a b.c=d" ""a.b=c', []),
        (b"a.-- a.--=b a\xa0.b", []),
    ],
)
def test_parameters_of_modules(line: bytes, parameters: list[tuple[str, bytes]]) -> None:
    """As the kernel, which cuts them again when the module is loaded, wants them."""
    assert cmdline.parse(line).of_modules() == parameters


@given(st.lists(st.sampled_from(["a", "b-c", ".", "=", '"', " ", "--"])).map("".join))
def test_a_parameter_of_a_module_is_cut_again_as_it_was(text: str) -> None:
    line = cmdline.parse(text.encode())
    for module, parameter in line.of_modules():
        [(name, value)] = cmdline.parse(parameter).parameters
        assert value in line.all(f"{module}.{name}")


def test_absent_missing_and_empty_values_differ() -> None:
    line = cmdline.parse(b"root root= root=x")
    assert line.all("root") == [None, "", "x"]
    assert (line.has("root"), line.first("root")) == (True, None)
    assert (line.has("init"), line.first("init"), line.all("init")) == (False, None, [])
    assert cmdline.parse(b"root= root").first("root") == ""


def test_dash_and_underscore_are_the_same_in_names_only() -> None:
    line = cmdline.parse(b"a-b_c=x-y a_b-c=z")
    assert line.all("a_b_c") == line.all("a-b-c") == ["x-y", "z"]
    assert not line.has("abc")
    assert not line.has("A-b-c")


def test_one_lf_of_proc_is_not_part_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cmdline"
    path.write_bytes(b'a="b\n')
    assert cmdline.load(str(path)).parameters == [("a", "b")]
    assert cmdline.load().parameters is not None


def test_long_lines() -> None:
    line = cmdline.parse(b"a=" + b"x" * 65536 + b" " + b"p " * 5000 + b"last=1")
    assert len(line.parameters) == 5002
    assert line.first("last") == "1"


@given(st.binary(max_size=300) | st.text('ab="- \xa0', max_size=40).map(lambda t: t.encode()))
def test_any_bytes(data: bytes) -> None:
    line = cmdline.parse(data)
    shown = "".join(key + (value or "") for key, value in line.parameters)
    assert len(shown.encode("utf-8", "surrogateescape")) <= len(data)


words = st.text(st.characters(codec="ascii", exclude_characters='" \t\n\v\f\r='), min_size=1)
values = st.none() | st.text(st.characters(exclude_characters='"\0', exclude_categories=["Cs"]))


@given(st.lists(st.tuples(words.filter(lambda w: w.isprintable() and w != "--"), values)))
def test_what_is_quoted_comes_back(parameters: list[tuple[str, str | None]]) -> None:
    data = " ".join(key if value is None else f'{key}="{value}"' for key, value in parameters)
    assert cmdline.parse(data.encode()).parameters == parameters


def digests(text: str) -> list[str]:
    return [digest.hex for digest in cmdline.digests(cmdline.parse(text.encode()))]


def test_the_keys_of_the_field() -> None:
    assert digests("quiet") == []
    assert digests(f"composefs={A}") == [A]
    assert digests(f"composefs={C}") == [C]
    assert digests(f"composefs.digest=v1-sha256-12:{A}") == [A]
    assert digests(f"composefs.digest=v2-sha512-12:{C}") == [C]
    assert digests(f'composefs="{A}"') == [A]
    assert digests(f"composefs={A} composefs.digest=v1-sha256-12:{A}") == [A]
    assert digests(f"composefs={B} composefs.digest=v2-sha512-12:{C} composefs={A}") == [B, C, A]
    assert digests(f"composefs={B} composefs={A} composefs={B}") == [B, A]
    # A word of others: it names nothing.
    assert digests("composefs") == []
    assert digests(f"composefs composefs={A}") == [A]
    assert digests(f"composefs2={A} xcomposefs={A} composefs.x={A}") == []
    assert digests(f"a -- composefs={A}") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("composefs=", "composefs= without a digest"),
        ("composefs.digest", "composefs.digest without a digest"),
        (f"composefs=?{A}", "verification off"),
        (f"composefs.digest=?v1-sha256-12:{A}", "verification off"),
        (f"composefs.digest=v1-sha256-12:?{A}", "wrong length"),
        (f"composefs={A} composefs=?{A}", "verification off"),
        (f"composefs={A} composefs=", "without a digest"),
        (f"composefs={A[:-1]}", "wrong length"),
        (f"composefs={A.upper()}", "lower-case"),
        (f"composefs=sha256:{A}", "without a prefix"),
        (f"composefs.digest={A}", "expected v1- or v2-"),
        (f"composefs.digest=v3-sha256-12:{A}", "expected v1- or v2-"),
        (f"composefs.digest=v1-sha256-16:{A}", "expected v1- or v2-"),
        (f"composefs.digest=v1-sha512-12:{A}", "wrong length"),
        ("composefs=../../x", "wrong length"),
        ("composefs=é", "wrong length"),
    ],
)
def test_digests_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        digests(text)
    assert caught.value.step == "source"
    assert words in str(caught.value)
    assert str(caught.value).isascii()


def test_surrogates_are_no_crash() -> None:
    with pytest.raises(Refused):
        cmdline.digests(cmdline.parse(b"composefs=\xff"))
    with pytest.raises(Refused):
        cmdline.digests(cmdline.parse(b"composefs.digest=\xff"))
