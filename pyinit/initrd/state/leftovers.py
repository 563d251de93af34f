# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What earlier boots left in a transient directory on the disk, removed while this one goes on.

Any user of an earlier boot may have left millions of names there, or a tree that does not go (a
read-only subvolume): a boot waits for neither. The directory of this boot is another one.
"""

import _cfs
import posix

from pyinit.initrd.report import output
from pyinit.initrd.report.errors import os_error, printable
from pyinit.initrd.state import copying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = "/dev/kmsg"
_NOTHING = "/dev/null"
# The topmost control group, to which no service belongs. After the switch of the root systemd stops
# cfs-setup-root.service and ends all of its control group: the new root has no unit file that says
# KillMode=process (seen with systemd 257).
_TOPMOST_GROUP = "/sys/fs/cgroup/cgroup.procs"
# The niceness of a session. Where the kernel shares the processor out by sessions, that of a
# process counts within its own session only.
_SESSION_NICENESS = "/proc/self/autogroup"


def remove_later(parent: int, kept: str) -> None:
    """All in the directory `parent` but `kept`, by a process of its own, which says in the kernel's
    log what stays. A failure is a warning: what stays is there at the next boot too."""
    try:
        if next(_others(parent, kept), None) is None:
            return
        child = posix.fork()
    except OSError as error:
        output.err(f"warning: what earlier boots left stays: {os_error(error)}\n")
        return
    except MemoryError:
        output.err("warning: what earlier boots left stays: out of memory\n")
        return
    if child == 0:
        try:
            remove(_alone(parent), kept)
        finally:
            posix._exit(0)  # noqa: SLF001


def _alone(parent: int) -> int:
    """Holds nothing that others wait for or unmount: pipes, loop devices, layers. `parent`, moved.

    A systemd that leaves its initrd sends all of its processes a SIGTERM; one that shuts down sends
    the next.
    """
    _cfs.outlive_initrd()
    posix.nice(10)
    _write(_TOPMOST_GROUP, b"0")
    _write(_SESSION_NICENESS, b"10")
    null = posix.open(_NOTHING, posix.O_RDWR)
    try:
        log = posix.open(_LOG, posix.O_WRONLY)
    except OSError:
        log = null
    for descriptor, number in ((null, 0), (null, 1), (log, 2), (parent, 3)):
        posix.dup2(descriptor, number)
    _cfs.close_from(4)  # posix.closerange() is a call for each where libc is musl
    return 3


def _write(path: str, text: bytes) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY)
        posix.write(fd, text)
    except OSError:
        return  # an initrd without systemd mounts no control groups; not every kernel has the other


def remove(parent: int, kept: str) -> None:
    """By descriptors only: once the root has been switched, no path leads anywhere."""
    for name in _others(parent, kept):
        try:
            copying.remove(name, parent)
        except OSError as error:
            said = f"{printable(name)} of an earlier boot stays: {os_error(error)}"
            output.err(f"warning: {said}\n")


def _others(parent: int, kept: str) -> "Iterator[str]":
    with posix.scandir(parent) as entries:
        for entry in entries:
            if entry.name != kept:
                yield entry.name
