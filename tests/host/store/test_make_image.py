# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image`: the bytes that mkcomposefs makes, or one line and nothing."""

import _cfshost
import os
import re
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuzz import dump_seeds
from fuzz.dump_seeds import FILE, ROOT
from pyinit.host import atomic
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import make_image
from pyinit.initrd.report.errors import Refused

Capture = pytest.CaptureFixture[str]

WHOLE = dump_seeds.dump()[0]
DIRECTORY = b"%s 0 40755 1 0 0 0 0.0 - - -"


def run(*arguments: object) -> int:
    return main(["image", *map(str, arguments)])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "dump"
    path.write_bytes(WHOLE)
    return path


def test_what_it_prints(text: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "image"
    assert run(text, "-o", out) == 0
    assert capfd.readouterr() == ("", "")
    digest = make_image.digest(out.read_bytes())
    for options in (("-o", out, "--print-digest"), ("--digest-only",)):
        assert run(text, *options) == 0
        assert capfd.readouterr() == (f"{digest}\n", "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == ["dump", "image"]
    main(["measure", str(out)])
    assert capfd.readouterr().out == f"{digest}\n"


def test_wrong_use(text: Path, tmp_path: Path, capfd: Capture) -> None:
    one = "usage: image: one of -o, --object-store and --digest-only is needed"
    for arguments, code, said in (
        ((text,), 1, one),
        ((text, "--digest-only", "-o", tmp_path / "out"), 1, one),
        ((text, "-o", tmp_path), 1, f"usage: {tmp_path}: a directory, expected the name of a file"),
        ((tmp_path / "absent", "--digest-only"), 2, f"source: {tmp_path / 'absent'}: No such"),
        ((text, "-o", tmp_path / "absent" / "out"), 2, f"source: {tmp_path / 'absent'}: No such"),
    ):
        assert run(*arguments) == code
        output = capfd.readouterr()
        assert output.out == ""
        assert f"cfs-store: error: {said}" in output.err or f": {said}" in output.err
        assert output.err.count("\n") == 1
    assert os.listdir(tmp_path) == ["dump"]


def test_a_broken_line_is_named_and_nothing_is_written(tmp_path: Path, capfd: Capture) -> None:
    path, out = tmp_path / "dump", tmp_path / "out"
    path.write_bytes(ROOT + b"\n" + FILE + b"\n" + FILE + b"\n")
    out.write_bytes(b"as it was")
    assert run(path, "-o", out) == 32
    assert capfd.readouterr().err == (
        f"cfs-store: refused: source: {path}: line 3: a path that is there twice, "
        "expected a text as of composefs-dump(5)\n"
    )
    assert out.read_bytes() == b"as it was"
    path.write_bytes(b"")
    assert run(path, "-o", out) == 32
    said = f"cfs-store: refused: source: {path}: no image can be made: no file\n"
    assert capfd.readouterr().err == said
    assert sorted(os.listdir(tmp_path)) == ["dump", "out"]


def test_what_is_written_is_read_back(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    out = tmp_path / "out"
    honest = atomic.write_file
    for change, said in (
        (lambda made: made.replace(b"hello", b"hallo"), "not what was written, expected a disk"),
        (lambda made: b"x" + made[1:], "no composefs image: no composefs header at byte 0"),
    ):

        def write(path: Path, pieces: Any, *rest: Any, change: Any = change) -> None:
            honest(path, [change(bytes(piece)) for piece in pieces], *rest)

        monkeypatch.setattr(atomic, "write_file", write)
        assert run(text, "-o", out) == 32
        assert said in capfd.readouterr().err
        assert os.listdir(tmp_path) == ["dump"]


def test_a_bug_of_the_writer_is_seen(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no image is written."""
    monkeypatch.setattr(_cfshost, "make_image", lambda *_: bytes(8192))
    assert run(text, "--digest-only") == 4


def test_too_large_a_text(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_image, "TEXT_LIMIT", len(WHOLE))
    make_image.make(str(text))
    monkeypatch.setattr(make_image, "TEXT_LIMIT", len(WHOLE) - 1)
    with pytest.raises(Refused, match=f"over {len(WHOLE) - 1} bytes"):
        make_image.make(str(text))


def test_versions(text: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(ROOT + b"\n" + FILE + b"\n")
    for path, default in ((text, 1), (plain, 0)):
        for least, most, version in (
            (None, None, default), (0, 1, default), (None, 1, default), (0, None, 0), (None, 0, 0),
            (0, 0, 0), (1, None, 1), (1, 0, 1), (1, 1, 1),
        ):  # fmt: skip
            made = make_image.make(str(path), least, most)
            assert _cfshost.Image(made).version == version, (least, most)
    with pytest.raises(ValueError, match="no such version"):
        _cfshost.make_image(WHOLE, 0, 2)


# ---- each rule


def _deep(count: int) -> bytes:
    return b"\n".join([ROOT, *(DIRECTORY % (b"/d" * depth) for depth in range(1, count + 1))])


def _large() -> bytes:
    """Files whose chunks have a block each."""
    line = b" 9007199254740992 100644 1 0 0 0 0.0 - - -"
    return b"\n".join([ROOT, *(b"/%d" % number + line for number in range(262144))])


LONG_LINK = "a link that is too long for format 2"
RULES: dict[str, Callable[[], bytes]] = {
    **{rule: partial(bytes, data) for rule, data in dump_seeds.BROKEN.items()},
    "directories that are too deep in each other": lambda: _deep(2048),
    "an image of more than 1 GiB": _large,
    LONG_LINK: lambda: ROOT + b"\n/a 0 120777 1 0 0 0 0.0 " + b"p" * 4065 + b" - -",
}


# Not in the last line.
ELSEWHERE = {
    "no file": 0,
    "an image of more than 1 GiB": 0,
    LONG_LINK: 0,
    "a file before the root": 1,
    "a hard link that leads to itself": 2,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule(rule: str) -> None:
    data = RULES[rule]()
    with pytest.raises(_cfshost.Unfit) as caught:
        _cfshost.make_image(data, *(make_image.RUST if rule == LONG_LINK else (0, 1)))
    # The writer names the link: no line of the text is known to it.
    assert caught.value.args[0] == ("/a: " if rule == LONG_LINK else "") + rule
    assert caught.value.args[1] == ELSEWHERE.get(rule, data.count(b"\n") + 1)


def test_every_rule_is_in_the_list() -> None:
    sources = Path(__file__).parents[3] / "csrc/host"
    text = "".join((sources / name).read_text() for name in ("dump.cc", "tree.cc", "writer.cc"))
    called = r'(?:\bfail\("|Unfit\((?:path_of\(node\) \+ ": |")|return ")([^"]* [^"]*)"'
    assert set(re.findall(called, text)) == RULES.keys()


def test_what_is_just_allowed() -> None:
    for data in (
        _deep(2047),
        ROOT + b" trusted.overlay." + b"n" * 231 + b"=",
        ROOT + b" user.a=" + b"x" * (32767 - 12 - 7 - 6),
        ROOT + b"\n/" + b"n" * 255 + b" 9007199254740992 100644 1 0 0 0 0.0 - - -",
        ROOT + b"\n/a 0 120777 1 0 0 0 0.0 " + b"p" * 4095 + b" - -",
        ROOT + b"\n/a 5000 100644 1 0 0 0 0.0 - " + b"c" * 5000 + b" -",
    ):
        make_image.check(_cfshost.make_image(data, 0, 1))
    link = ROOT + b"\n/a 0 120777 1 0 0 0 0.0 " + b"p" * 4064 + b" - -"
    make_image.check(_cfshost.make_image(link, *make_image.RUST))
    with pytest.raises(_cfshost.Unfit):
        _cfshost.make_image(ROOT + b" user.a=" + b"x" * (32767 - 12 - 7 - 5), 0, 1)


def test_links_that_lead_to_each_other_take_no_time() -> None:
    """A hundred thousand in a chain, each before what it leads to; and names backwards."""
    count = 100_000
    lines = [b"/%06d 0 @100644 1 0 0 0 0.0 /%06d - -" % (i, i + 1) for i in range(count)]
    made = _cfshost.make_image(b"\n".join([ROOT, *lines, FILE.replace(b"/f", b"/100000")]), 0, 1)
    pieces: list[bytes] = []
    _cfshost.Image(made).dump(pieces.append)
    assert b"".join(pieces).count(b" @100644 ") == count
    files = [b"/%06d 0 100644 1 0 0 0 0.0 - - -" % i for i in range(count, 0, -1)]
    make_image.check(_cfshost.make_image(b"\n".join([ROOT, *files]), 0, 1))


# ---- of a directory


HUGE = 1 << 36  # without a block: it takes long to read, unless it is cut


def _tree(path: Path, threads: int, progress: Callable[[int, int], object]) -> bytes:
    fd = os.open(path, os.O_PATH)
    try:
        return _cfshost.image_of_tree(fd, threads, 0, 1, _cfshost.Adjustment(), progress)
    finally:
        os.close(fd)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, HUGE)
    with pytest.raises(_cfshost.Unreadable) as caught:
        _tree(tmp_path, threads, lambda _, __: os.truncate(path, 99))
    assert caught.value.args == (b"/file", 0, "it changed while it was read")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path, threads: int) -> None:
    """Its size stays. Another thread does that all the time, while half a GB is read."""
    path, stop = tmp_path / "file", threading.Event()
    path.touch()
    os.truncate(path, 1 << 29)

    def touch() -> None:
        while not stop.is_set():
            os.utime(path, ns=(0, 0))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(_cfshost.Unreadable) as caught:
            _tree(tmp_path, threads, lambda _, __: None)
    finally:
        stop.set()
        thread.join()
    assert caught.value.args == (b"/file", 0, "it changed while it was read")


@pytest.mark.parametrize("threads", [1, 2])
def test_it_can_be_interrupted(tmp_path: Path, threads: int) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, HUGE)

    def progress(_: int, __: int) -> None:
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")
    with pytest.raises(KeyboardInterrupt):
        _tree(tmp_path, threads, progress)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """A path that is too long for one call; and what the engine says of others."""
    inside = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("n" * 255, dir_fd=inside)
        below = os.open("n" * 255, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)
    assert run(tmp_path, "--digest-only") == 2
    path = f"{tmp_path}{('/' + 'n' * 255) * 17}"
    assert capfd.readouterr().err == (
        f"cfs-store: error: source: {path}: File name too long (ENAMETOOLONG)\n"
    )

    def refuse(*_: object) -> bytes:
        raise _cfshost.Unreadable(b"/a\xff", 0, "a rule")

    monkeypatch.setattr(_cfshost, "image_of_tree", refuse)
    with pytest.raises(Refused, match=f"source: {tmp_path}/a.*: no image can be made: a rule"):
        make_image.make(f"{tmp_path}/")
