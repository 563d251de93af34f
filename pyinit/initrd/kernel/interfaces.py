# SPDX-License-Identifier: Apache-2.0 OR MIT
"""/proc, /sys, /dev and /run, which PID 1 of an initramfs mounts itself."""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import mounting
from pyinit.initrd.report.errors import Refused, Step, os_error

# (where, type, options, attributes); /run is where the status record and systemd's state lie
_SECURE = mounting.NOSUID | mounting.NODEV
_MOUNTS: tuple[tuple[str, str, list[tuple[str, str | None]], int], ...] = (
    ("/proc", "proc", [], _SECURE | mounting.NOEXEC),
    ("/sys", "sysfs", [], _SECURE | mounting.NOEXEC),
    ("/dev", "devtmpfs", [("mode", "0755")], mounting.NOSUID),
    ("/run", "tmpfs", [("mode", "0755")], _SECURE),
)
PLACES = tuple(where for where, *_ in _MOUNTS)


def mount_all() -> None:
    """Mounts those of PLACES that are not there yet. CfsError: one could not be mounted."""
    for where, fstype, options, attributes in _MOUNTS:
        make_directory(where)
        with Step("state", where):
            if posix.stat(where).st_dev != posix.stat("/").st_dev:
                continue
        try:
            mount = _cfs.fs_mount(fstype, [("source", fstype), *options], attributes)
            _cfs.mount_attach(mount, mounting.open_directory(where))
        except OSError as error:
            raise mounting.mount_refused(fstype, where, error) from None


def make_directory(path: str) -> None:
    """`path`, made where it is missing. Refused("switch-root")."""
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise Refused("switch-root", path, os_error(error), "a directory") from None
