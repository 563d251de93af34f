# SPDX-License-Identifier: Apache-2.0 OR MIT
"""State on a disk that somebody prepared; with kernels and mounts: tests/vm/state."""

import _cfs
import os
import posix
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import area as state_area
from pyinit.initrd.state import copying
from pyinit.initrd.state.area import Area, Entry

GOOD = bytearray(2 << 20)
struct.pack_into("<H", GOOD, 1024 + 0x38, 0xEF53)


class Attached(Exception):
    """A loop device would have been asked for."""


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Area:
    def attach(_fd: int, writable: bool) -> int:
        assert writable
        raise Attached

    monkeypatch.setattr(_cfs, "loop_attach", attach)
    monkeypatch.setattr(_cfs, "filesystem_sync", lambda _: None)
    (tmp_path / "disk").mkdir()
    fd = os.open(tmp_path / "disk", os.O_RDONLY)
    stage = SimpleNamespace(disk=lambda: fd, leftovers=None)
    return Area(stage, Config(), "ab" * 32, None)  # type: ignore[arg-type]


def attach(area: Area, path: Path) -> None:
    area._attach(Entry("/state"), os.open(path, os.O_RDWR))


def test_an_image_file_is_looked_at_before_it_is_attached(area: Area, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(GOOD)
    with pytest.raises(Attached):
        attach(area, image)
    bad = bytearray(GOOD)
    struct.pack_into("<I", bad, 1024 + 0xE4, 0xFE07)
    image.write_bytes(bad)
    with pytest.raises(Refused, match="state: /state: ext4: its journal is on another device"):
        attach(area, image)
    image.write_bytes(bytes(len(GOOD)))
    with pytest.raises(Refused, match="no file system that is known here"):
        attach(area, image)


def test_an_image_file_that_nobody_could_fill(
    area: Area, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its size is asked for."""
    image = tmp_path / "image"
    image.write_bytes(GOOD)
    most = 32 << 20
    disk = SimpleNamespace(f_blocks=most // 4096, f_frsize=4096, f_bsize=1)
    monkeypatch.setattr(posix, "fstatvfs", lambda _: disk)
    os.truncate(image, most)
    with pytest.raises(Attached):
        attach(area, image)
    os.truncate(image, most + 1)
    with pytest.raises(
        Refused, match=f"an image file of {most + 1} bytes, expected at most {most}"
    ):
        attach(area, image)
    area._settings.state_grow = most + 1
    with pytest.raises(Attached):
        attach(area, image)


def test_a_transient_directory_is_made_ours_and_what_is_in_it_left_to_others(
    area: Area, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed before the root is attached."""
    owned: list[str] = []
    own = copying.own

    def note(directory: int, mode: int) -> None:
        owned.append(os.path.basename(os.readlink(f"/proc/self/fd/{directory}")))
        own(directory, mode)

    monkeypatch.setattr(copying, "own", note)
    (tmp_path / "image").mkdir()
    before = tmp_path / "disk" / "var.transient" / "earlier"
    before.mkdir(parents=True)
    before.parent.chmod(0o2777)
    entry = area.fresh("/var", os.open(tmp_path / "image", os.O_RDONLY))
    boot = Path(state_area._BOOT_ID).read_text().strip()
    assert entry.path == f"/var.transient/{boot}"
    assert owned == ["var.transient", f"{boot}.cfs-new"]
    assert before.parent.stat().st_mode & 0o7777 == 0o755
    assert before.exists()
    assert area._stage.leftovers is not None
    parent, kept = area._stage.leftovers
    assert (os.path.samestat(os.fstat(parent), before.parent.stat()), kept) == (True, boot)
