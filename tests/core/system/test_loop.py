# SPDX-License-Identifier: Apache-2.0 OR MIT
"""loop.c: how a device is asked for; those that work are in tests/vm."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

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
        "get free",
        "open /dev/loop7 ro",
        "configure read-only autoclear 0 blocks of 4096",
    ]


def test_state_is_attached_writable(core: Core, tmp_path: Path) -> None:
    assert attach(core, tmp_path / "state", True) == [
        "open /dev/loop-control rw",
        f"flock {fcntl.LOCK_EX | fcntl.LOCK_NB:#x}",
        "get free",
        "open /dev/loop7 rw",
        "configure autoclear 0 blocks of 0",
    ]


def test_each_failure_is_told(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    file = os.open(path, os.O_RDWR)
    for writable in (False, True):

        def run(writable: bool = writable) -> int:
            result: int = core.lib.cfs_loop_attach(file, writable)
            if result >= 0:
                os.close(result)
            return result

        core.each_call_fails(run)
    os.close(file)


@pytest.mark.parametrize(
    ("call", "error", "result"),
    [
        (1, errno.ENOENT, errno.ENODEV),
        (1, errno.ENXIO, errno.ENODEV),
        (1, errno.EACCES, errno.EACCES),
        (4, errno.ENOENT, errno.ENODEV),  # a container with no node of the free one
        (4, errno.ENXIO, errno.ENODEV),
        (4, errno.EACCES, errno.EACCES),
        (2, errno.EWOULDBLOCK, errno.EBUSY),
    ],
)
def test_what_a_failure_is_told_as(
    core: Core, tmp_path: Path, call: int, error: int, result: int
) -> None:
    """No loop devices, and a file that is attached already."""
    path = tmp_path / "file"
    path.touch()
    file = os.open(path, os.O_RDWR)
    with core.account(call, error):
        assert core.lib.cfs_loop_attach(file, True) == -result
    os.close(file)


def test_a_device_that_another_took_is_not_the_end(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    file = os.open(path, os.O_RDWR)
    with core.account(4, errno.EBUSY) as said:
        loop = core.lib.cfs_loop_attach(file, False)
    assert said.count("get free") == 2
    os.close(loop)
    os.close(file)
