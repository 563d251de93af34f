# SPDX-License-Identifier: Apache-2.0 OR MIT
import os
from pathlib import Path

import pytest

from pyinit.initrd.kernel import filesystem
from pyinit.initrd.report.errors import Refused
from tests.initrd.harness import opens

# By the documents of each: offset of the superblock plus offset of the magic in it.
KNOWN = {
    "ext4": (1024 + 56, (0xEF53).to_bytes(2, "little")),
    "btrfs": (65536 + 64, b"_BHRfS_M"),
    "xfs": (0, b"XFSB"),
    "erofs": (1024, (0xE0F5E1E2).to_bytes(4, "little")),
    "f2fs": (1024, (0xF2F52010).to_bytes(4, "little")),
}


def disk(*names: str) -> bytes:
    data = bytearray(70000)
    for name in names:
        at, magic = KNOWN[name]
        data[at : at + len(magic)] = magic
    return bytes(data)


@pytest.mark.parametrize("name", KNOWN)
def test_each(name: str, tmp_path: Path) -> None:
    assert filesystem.detect(disk(name)) == [name]
    path = tmp_path / "disk"
    path.write_bytes(disk(name))
    with opens() as seen:
        assert filesystem.of_device(str(path)) == name
    assert seen == {str(path): os.O_NONBLOCK | os.O_CLOEXEC}


def test_short_and_empty() -> None:
    assert filesystem.detect(b"") == []
    assert filesystem.detect(disk()) == []
    assert filesystem.detect(disk("btrfs")[: filesystem.NEEDED]) == ["btrfs"]
    assert filesystem.detect(disk("btrfs")[: filesystem.NEEDED - 1]) == []
    assert filesystem.detect(disk("ext4")[:1081]) == []


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(disk("ext4", "btrfs"))
    with pytest.raises(Refused, match="signs of ext4 and btrfs"):
        filesystem.of_device(str(path))
    path.write_bytes(disk())
    with pytest.raises(Refused, match="no known file system"):
        filesystem.of_device(str(path))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Refused, match="ENOENT"):
        filesystem.of_device(str(tmp_path / "none"))
    with pytest.raises(Refused, match="EISDIR"):
        filesystem.of_device(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before
