# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is done with these rules is in test_modules.py, and what the kernel makes of parameters in
tests/vm/test_init.py."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.machine import modprobe
from pyinit.initrd.machine.modprobe import Rules
from pyinit.initrd.report.errors import Refused


def read(data: bytes) -> Rules:
    rules = Rules()
    rules.read(data)
    return rules


def everything(rules: Rules) -> tuple[object, ...]:
    return rules.options, rules.blacklist, rules.installs, rules.softdeps


NOTHING: tuple[object, ...] = ({}, set(), set(), {})


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"options a b=c", {"a": [b"b=c"]}),
        (b"options a-b c-d=e-f\n", {"a_b": [b"c-d=e-f"]}),
        (b"\t options\ta  b=1  c \r\n", {"a": [b"b=1  c"]}),
        (b'options a b="c  d" e', {"a": [b'b="c  d" e']}),
        (b"options a b\noptions a c\noptions d e", {"a": [b"b", b"c"], "d": [b"e"]}),
        (b"options a b=\\\nc \\\n d\noptions e f", {"a": [b"b=c  d"], "e": [b"f"]}),
        (b"options a b\\c", {"a": [b"b\\c"]}),
        (b"options a b=\xff", {"a": [b"b=\xff"]}),
    ],
)
def test_options(data: bytes, options: dict[str, list[bytes]]) -> None:
    assert everything(read(data)) == (options, set(), set(), {})


def test_other_words_that_count() -> None:
    assert read(b"blacklist a-b\nblacklist c # d\n").blacklist == {"a_b", "c"}
    assert read(b"install a-b /bin/false\ninstall c modprobe -i c && x\n").installs == {"a_b", "c"}
    softdeps = read(b"softdep a-b pre: c-d e post: f pre: g\nsoftdep a-b x post: h\n").softdeps
    assert softdeps == {"a_b": (["c-d", "e", "g"], ["f", "h"])}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n \n", b"options", b"options a", b"options a \n", b"blacklist", b"blacklist \n",
        b"install a", b"softdep a", b"#options a b", b"# blacklist a", b"Options a b",
        b"alias a b\nremove a b\nweakdep a b\ninclude a\nconfig a\n", b"options a b\0c",
    ],
)  # fmt: skip
def test_lines_that_say_nothing(data: bytes) -> None:
    assert everything(read(data)) == NOTHING


@given(st.binary(max_size=200) | st.lists(st.sampled_from(
    ["options", "blacklist", "install", "softdep", "pre:", "post:", "a", "b-c", '"', "\n", "\\\n"]
)).map(lambda words: " ".join(words).encode()))  # fmt: skip
def test_any_bytes(data: bytes) -> None:
    """What goes to the kernel has no end before its end."""
    rules = read(data)
    given = [text for texts in rules.options.values() for text in texts]
    assert not any(b"\0" in text or b"\n" in text for text in given)
    names = [*rules.options, *rules.blacklist, *rules.installs, *rules.softdeps]
    assert not any("-" in name or not name for name in names)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Three directories, of which the last one is missing."""
    made = [tmp_path / "etc", tmp_path / "usr", tmp_path / "lib"]
    for place in made[:2]:
        place.mkdir()
    monkeypatch.setattr(modprobe, "DIRECTORIES", tuple(map(str, made)))
    return made


def test_files_in_order_and_the_command_line_last(places: list[Path]) -> None:
    for at, name, text in (
        (0, "b.conf", "options x b"),
        (1, "b.conf", "options x hidden"),
        (1, "a.conf", "options x a\nblacklist y"),
        (0, "c.conf", "options x c"),
        (0, "d.config", "options x none"),
    ):
        (places[at] / name).write_text(text)
    rules = modprobe.load(["z,v-w,,", None, "", "u"], [("x", b'd="e f"'), ("new", b"g")])
    assert rules.options == {"x": [b"a", b"b", b"c", b'd="e f"'], "new": [b"g"]}
    assert rules.blacklist == {"y", "z", "v_w", "u"}


def test_nothing_there(places: list[Path]) -> None:
    assert everything(modprobe.load([], [])) == NOTHING


def test_what_cannot_be_read_is_named(places: list[Path]) -> None:
    """It may be what forbids a module."""
    (places[1] / "a.conf").mkdir()
    with pytest.raises(Refused, match=r"store: .*/usr/a\.conf: .*EISDIR"):
        modprobe.load([], [])
    (places[1] / "a.conf").rmdir()
    places[2].write_bytes(b"")
    with pytest.raises(Refused, match=r"store: .*/lib: .*ENOTDIR"):
        modprobe.load([], [])
    places[2].unlink()
    with (places[0] / "a.conf").open("wb") as file:
        file.truncate(modprobe.MAX + 1)
    with pytest.raises(Refused, match=r"store: .*/etc/a\.conf: .*EFBIG"):
        modprobe.load([], [])


def test_parameters_have_a_bound() -> None:
    rules = read(b"options a " + b"x" * 4000 + b"\noptions a " + b"y" * 95 + b"\n")
    assert len(rules.arguments("a", "erofs")) == 4096
    assert rules.arguments("b", "erofs") == b""
    rules.options["a"].append(b"")
    with pytest.raises(Refused) as caught:
        rules.arguments("a", "erofs")
    assert str(caught.value) == (
        "refused: erofs: kernel module a: 4097 bytes of parameters, expected at most 4096"
    )
