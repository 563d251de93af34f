# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from pyinit.host.atomic import write_file
from pyinit.initrd.report.errors import UsageError


def test_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        calls.append("sync directory" if path.is_dir() else f"sync {path.read_text()}")
        fsync(fd)

    def renamed(source: Path, target: Path) -> None:
        calls.append(f"rename to {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    checked: list[str] = []
    write_file(tmp_path / "new", [b"data"], 0o644, lambda path: checked.append(path.read_text()))
    assert calls == ["sync data", "rename to new", "sync directory"]
    assert checked == ["data"]
    assert (tmp_path / "new").read_bytes() == b"data"


def test_a_failed_check_leaves_nothing(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write_file(tmp_path / "new", [b"data"], 0o644, refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_device_stays_one(tmp_path: Path) -> None:
    """A rename to /dev/null, by root, would make a regular file of it."""
    checked: list[bytes] = []
    write_file(Path("/dev/null"), [b"data"], 0o644, lambda path: checked.append(path.read_bytes()))
    assert checked == [b"data"]
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_file(Path("/dev/full"), [b"data"], 0o644)


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "stdout"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(link, [b"data"], 0o644)
        assert os.read(reader, 9) == b"data"
    finally:
        os.close(reader)
    assert sorted(tmp_path.iterdir()) == [fifo, link]


def test_what_the_check_refuses_is_not_written_to_a_fifo(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError

    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match=r"^$"):
        write_file(tmp_path / "fifo", [b"data"], 0o644, refuse)  # it would wait for a reader


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path: Path, there: bool) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    if there:
        file.write_bytes(b"old")
    link.symlink_to("file")
    write_file(link, [b"new"], 0o644)
    assert link.is_symlink()
    assert not file.is_symlink()
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("name", [".", "/", "directory"])
def test_a_directory_is_named_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "directory").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"usage: {name}: a directory, expected the name of a"):
        write_file(Path(name), [b"data"], 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_missing_directory_is_named_as_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_file(tmp_path / "absent" / "file", [b"data"], 0o644)
    assert caught.value.filename == str(tmp_path / "absent")


def test_a_fault_is_told_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with that of the temporary one, which nobody knows."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_file(tmp_path / "file", [b"data"], 0o644)
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
