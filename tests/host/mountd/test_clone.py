# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The clone that is given out, by this kernel: what it locks, and what it costs root."""

import _cfs
import errno
import os
import subprocess
import sys

import pytest

from pyinit.host.mountd import clone

REPOSITORY = clone.__file__.rpartition("/pyinit/")[0]
# A quota is of the user namespace that this runs in. The kernel takes one back a moment later.
REAL = """
import _cfs, errno, os, time
from pathlib import Path
from pyinit.host.mountd import clone
RDONLY, NOSUID, NODEV = 1, 2, 4
tree = _cfs.fs_mount("tmpfs", [], RDONLY | NOSUID | NODEV)
_cfs.mount_attach(tree, os.open("/tmp", os.O_PATH))
place = os.open("/tmp", os.O_PATH)
Path("/proc/sys/user/max_user_namespaces").write_text("4")
def there():
    return sorted(os.listdir("/proc/self/fd")), Path("/proc/self/mountinfo").read_text()
before = there()
held, end = [], time.monotonic() + 20
while len(held) < 12 and time.monotonic() < end:
    try:
        held.append(clone.locked(place))
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        time.sleep(0.05)
print("held:", len(held))
said = set()
for each in held:
    assert os.fstat(each).st_ino == os.fstat(place).st_ino
    for bit in (RDONLY, NOSUID, NODEV):
        try:
            _cfs.mount_set(each, 0, bit, False)
            said.add("taken")
        except OSError as error:
            said.add(errno.errorcode[error.errno])
    os.close(each)
print("attributes:", *said)
print("left:", there() != before)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="namespaces of one's own need root")
def test_who_holds_mounts_uses_up_no_user_namespaces() -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", REAL],
        capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/build/lib"},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["held: 12", "attributes: EPERM", "left: False"]


class Calls:
    """Stand-ins, of which one fails."""

    def __init__(self, patch: pytest.MonkeyPatch, fails: str) -> None:
        self.fails = fails
        self.locked = os.open("/", os.O_PATH)
        self.made: list[str] = []
        for name in ("mount_clone_locked", "mount_attach", "mount_clone", "mount_detach"):
            patch.setattr(_cfs, name, self._of(name))

    def _of(self, name: str) -> object:
        def call(fd: int, *_: object) -> int:
            assert fd == (7 if name == "mount_clone_locked" else self.locked)
            self.made.append(name)
            if name == self.fails:
                raise OSError(errno.EPERM, name)
            return self.locked if name == "mount_clone_locked" else 99

        return call


@pytest.mark.parametrize("fails", ["mount_attach", "mount_clone", "mount_detach"])
def test_nothing_is_left_of_what_fails(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    calls = Calls(monkeypatch, fails)
    with pytest.raises(OSError, match=fails):
        clone.locked(7)
    assert sorted(os.listdir("/proc/self/fd")) == before
    # What was attached is detached.
    assert ("mount_detach" in calls.made) == (fails != "mount_attach")
