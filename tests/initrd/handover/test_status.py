# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import json
import os
import posix
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.handover import status
from tests.initrd.harness import any_text, is_one_printable_line

values = st.recursive(
    st.none() | st.booleans() | st.integers() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


def joined(value: object) -> object:
    """Two halves of a surrogate pair that stand side by side are one character in JSON."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if isinstance(value, list):
        return [joined(item) for item in value]
    if isinstance(value, dict):
        return {joined(key): joined(item) for key, item in value.items()}
    return value


@given(values)
def test_any_value_is_read_back(value: "status.Value") -> None:
    text = status.to_json(value)
    assert is_one_printable_line(text)
    # as text, since 1 == True
    assert json.dumps(json.loads(text)) == json.dumps(joined(value))


def test_the_text() -> None:
    record: dict[str, status.Value] = {"a": True, "b": None, "c": [1, False], "d": '"\\\n\udcff😀'}
    assert status.to_json(record) == (
        r'{"a": true, "b": null, "c": [1, false], "d": "\"\\\u000a\udcff\ud83d\ude00"}'
    )
    assert (status.to_json({}), status.to_json([])) == ("{}", "[]")


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
