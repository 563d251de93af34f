# SPDX-License-Identifier: Apache-2.0 OR MIT
"""loop.c: how a device is asked for; those that work are in tests/vm."""

import os
from pathlib import Path

from tests.core.core import Core


def attach(core: Core, path: Path, writable: bool) -> list[str]:
    path.touch()
    file = os.open(path, os.O_RDWR)
    with core.account() as said:
        loop = core.lib.cfs_loop_attach(file, writable)
    os.close(loop)
    os.close(file)
    return said


def test_an_image_is_attached_read_only(core: Core, tmp_path: Path) -> None:
    """Said twice, by the mode of the device and by the flag: neither is left to the other."""
    assert attach(core, tmp_path / "image", False) == [
        "open /dev/loop-control rw",
        "open /dev/loop7 ro",
        "configure read-only autoclear 0 blocks of 4096",
    ]


def test_state_is_attached_writable(core: Core, tmp_path: Path) -> None:
    assert attach(core, tmp_path / "state", True) == [
        "open /dev/loop-control rw",
        "open /dev/loop7 rw",
        "configure autoclear 0 blocks of 0",
    ]
