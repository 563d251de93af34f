# SPDX-License-Identifier: Apache-2.0 OR MIT
"""locked.c: a clone of a mount whose attributes nobody in a user namespace can take away."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tests.core import build
from tests.core.core import Core

# fchdir, unshare, open_tree: the child's
CALLS = 3


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_what_fails_in_the_child_is_told(core: Core, number: int) -> None:
    here, before = os.open("/", os.O_PATH), descriptors()
    with core.account(number, errno.EDOM):
        assert core.lib.cfs_mount_clone_locked(here) == -errno.EDOM
    assert descriptors() == before
    os.close(here)


def test_what_the_child_has_made_is_ours(core: Core) -> None:
    here, before = os.open("/", os.O_PATH), descriptors()
    with core.account():
        fd = core.lib.cfs_mount_clone_locked(here)
    assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"  # as account.c has it
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)
    assert descriptors() == before
    os.close(here)


def test_a_descriptor_that_is_none(core: Core) -> None:
    assert core.lib.cfs_mount_clone_locked(-1) == -errno.EBADF


@pytest.mark.parametrize("name", ["syscall", "dup3"])
def test_a_call_of_the_library_fails(core: Core, name: str) -> None:
    """After dup3 the child's descriptor, which is ours too, is closed all the same."""
    here, before = os.open("/", os.O_PATH), descriptors()
    with core.account(), core.failing(name, errno.EDOM):
        assert core.lib.cfs_mount_clone_locked(here) == -errno.EDOM
    assert descriptors() == before
    os.close(here)


REAL = """
import _cfs, errno, os, sys
RDONLY, NOSUID, NODEV = 1, 2, 4
tree = _cfs.fs_mount("tmpfs", [], RDONLY | NOSUID | NODEV)
_cfs.mount_attach(tree, os.open("/tmp", os.O_PATH))
place = os.open("/tmp", os.O_PATH)
said = []
for clone in (_cfs.mount_clone(place, False), _cfs.mount_clone_locked(place)):
    assert os.fstat(clone).st_ino == os.fstat(place).st_ino
    for each in (RDONLY, NOSUID, NODEV):
        try:
            _cfs.mount_set(clone, 0, each, False)
            said.append("taken")
        except OSError as error:
            said.append(errno.errorcode[error.errno])
print(*said)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="a mount namespace of one's own needs root")
def test_the_kernel_gives_no_attribute_of_it_away() -> None:
    """Not to root either."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", REAL],
        capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(build.ROOT / "build/lib")},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == ["taken"] * 3 + ["EPERM"] * 3
