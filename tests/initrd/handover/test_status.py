# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import json
import os
import posix
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.handover import status
from tests.initrd.harness import is_one_printable_line

text = st.one_of(st.text(), st.binary().map(os.fsdecode), st.text("\\x\udcff\ud800"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=6,
)


def unescaped(value: object) -> object:
    """What the page tells readers to do with the values of the keys that `escaped` lists."""
    if isinstance(value, str):
        return re.sub(r"\\(\\|x(..)|u(....))", _unescaped, value)
    if isinstance(value, list):
        return [unescaped(item) for item in value]
    if isinstance(value, dict):
        return {unescaped(key): unescaped(item) for key, item in value.items()}
    return value


def _unescaped(found: "re.Match[str]") -> str:
    if found[2]:
        return os.fsdecode(bytes([int(found[2], 16)]))
    return chr(int(found[3], 16)) if found[3] else "\\"


@given(st.dictionaries(st.sampled_from("abc"), values, max_size=3))
def test_any_record_is_read_back(record: "dict[str, status.Value]") -> None:
    """By a reader that takes UTF-8 only, and no half of a surrogate pair."""
    said = status.to_json(record)
    assert is_one_printable_line(said)
    found = json.loads(said)
    json.dumps(found, ensure_ascii=False).encode()
    escaped = found.pop("escaped", [])
    assert escaped == [key for key in record if not is_text(record[key])]
    again = {key: unescaped(found[key]) if key in escaped else found[key] for key in found}
    # as text, since 1 == True
    assert json.dumps(again) == json.dumps(record)


def is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def test_the_text() -> None:
    record: dict[str, status.Value] = {"a": True, "b": None, "c": [1, False], "d": '"\\\n😀'}
    assert status.to_json(record) == (
        r'{"a": true, "b": null, "c": [1, false], "d": "\"\\\u000a\ud83d\ude00"}'
    )
    assert status.to_json({}) == "{}"


def test_a_name_that_is_no_utf_8() -> None:
    """It was half of a surrogate pair, at which some readers refuse the whole record."""
    name = os.fsdecode(b"/\xff\\")
    assert status.to_json({"a": name, "b": "\\", "c": [{"d": name}]}) == (
        r'{"a": "/\\xff\\\\", "b": "\\", "c": [{"d": "/\\xff\\\\"}], "escaped": ["a", "c"]}'
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cfs"
    monkeypatch.setattr(status, "DIRECTORY", str(directory))
    monkeypatch.setattr(status, "PATH", str(directory / "root.json"))
    return directory


def test_the_place() -> None:
    assert status.PATH == "/run/cfs/root.json"


def test_written_and_replaced(run: Path) -> None:
    status.write({"digest": "sha256:aa"})
    assert json.loads((run / "root.json").read_text()) == {"digest": "sha256:aa"}
    assert (run / "root.json").stat().st_mode & 0o222 == 0
    status.write({"digest": "x"})
    assert (run / "root.json").read_bytes() == b'{"digest": "x"}\n'
    assert os.listdir(run) == ["root.json"]


def test_what_a_killed_run_left_is_overwritten(run: Path) -> None:
    run.mkdir()
    (run / "root.json.new").write_text("x" * 1000)
    status.write({"digest": "x"})
    assert (run / "root.json").read_bytes() == b'{"digest": "x"}\n'


def test_another_place(run: Path) -> None:
    status.write({"digest": "x"}, str(run / "other.json"))
    assert os.listdir(run) == ["other.json"]


def test_short_writes_are_continued(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(posix, "write", lambda fd, data: write(fd, data[:3]))
    status.write({"digest": "sha256:aa"})
    assert (run / "root.json").read_bytes() == b'{"digest": "sha256:aa"}\n'


def test_a_full_file_system_leaves_the_old_record(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status.write({"old": True})
    room = 5
    write = os.write

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(fd, data[:room])
        room -= done
        return done

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(OSError, match="No space"):
        status.write({"new": True})
    assert (run / "root.json").read_bytes() == b'{"old": true}\n'


def test_nothing_is_left_of_a_record_that_could_not_be_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(OSError, match="No space"):
        status.write({"a": 1})
    assert os.listdir(run) == []
