# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from pyinit.host.atomic import write_file


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
    write_file(tmp_path / "new", b"data", 0o644, lambda path: checked.append(path.read_text()))
    assert calls == ["sync data", "rename to new", "sync directory"]
    assert checked == ["data"]
    assert (tmp_path / "new").read_bytes() == b"data"


def test_a_failed_check_leaves_nothing(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write_file(tmp_path / "new", b"data", 0o644, refuse)
    assert list(tmp_path.iterdir()) == []
