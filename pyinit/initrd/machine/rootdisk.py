# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The disk that `root=` names, or that is discovered: found, and mounted where nobody but us sees
it.

It is mounted detached, read-only, and without programs, devices and set-user-id: what lies on it
was written by whoever had it. The words of the command line that say how (rootfstype=, rootflags=,
rootwait) are obeyed here or refused by name.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import filesystem, mounting
from pyinit.initrd.machine import btrfs, devices, discover, named
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Options = list[tuple[str, str | None]]

HIDDEN = mounting.RDONLY | mounting.NOSUID | mounting.NODEV | mounting.NOEXEC

_ATTRIBUTES = {
    "nosuid": mounting.NOSUID,
    "nodev": mounting.NODEV,
    "noexec": mounting.NOEXEC,
    "noatime": mounting.NOATIME,
    "nodiratime": mounting.NODIRATIME,
}
# With it in rootfstype= the kernel makes its first root a tmpfs.
_OF_THE_INITRAMFS = "tmpfs"
# Of mount(8), and nothing to do here: the disk is read-only until state on it is asked for.
_PASSED_OVER = (
    *("ro", "rw", "defaults", "suid", "dev", "exec", "atime", "diratime", "relatime"),
    *("norelatime", "strictatime", "auto", "noauto", "nofail", "_netdev"),
)


class Search:
    """How disks are looked for: up to `seconds`, while `modules` loads drivers. None of those: udev
    runs, which does that, and makes links. `booted` says which disk was booted from, see
    probe.booted_one(); it takes seconds."""

    __slots__ = ("booted", "each", "modules", "seconds")

    def __init__(
        self, seconds: int, modules: Modules | None, booted: "Callable[..., tuple[str, str]]"
    ) -> None:
        self.seconds = seconds
        self.modules = modules
        self.booted = booted
        self.each = modules.coldplug if modules is not None else None

    def refused(self, error: devices.NotFound) -> Refused:
        """The same, with the drivers that may be to blame."""
        not_loaded = self.modules.not_loaded() if self.modules is not None else ""
        found = "; ".join(filter(None, (error.found, not_loaded)))
        return Refused(error.step, error.path, found)


def find(spec: str, search: Search, *, discovered: bool = False) -> str:
    """The device node; waits for it. Refused("store").

    `discovered`: an empty `spec` is no mistake, but the root partition of the disk that was booted
    from.
    """
    seconds, each = search.seconds, search.each
    try:
        if discovered and not spec:
            return discover.find(posix.uname().machine, seconds, each, search.booted)
        if search.modules is None:
            return devices.find(spec, seconds, links=True)
        if named.is_name(spec):
            return named.find(spec, seconds, each, search.booted)
        return devices.find(spec, seconds, each)
    except devices.NotFound as error:
        raise search.refused(error) from None


def mount(
    device: str, types: str, flags: str, search: Search, *, writable: bool = False
) -> tuple[int, int]:
    """The file system on it, attached nowhere; and those of its attributes that are ours alone,
    which state shown from it shall not have. Refused("store").

    `types` and `flags` are the values of rootfstype= and rootflags=, or empty. `search` finds the
    other devices of a btrfs that lies on several. `writable`: the file system, not this mount of
    it, where the disk allows that; the kernel takes no other mount of a disk that differs in it.
    """
    wanted, attributes = parse_flags(flags)
    kinds = [fstype for fstype in types.split(",") if fstype not in ("", _OF_THE_INITRAMFS)]
    kinds = kinds or [filesystem.of_device(device)]
    problems: list[str] = []
    for fstype in kinds:
        try:
            if search.modules is not None:
                search.modules.load_filesystem(fstype)
        except Refused as error:
            if len(kinds) == 1:
                raise
            problems.append(f"{fstype}: {error.path}: {error.found}")
            continue
        if fstype == btrfs.KIND:
            _scan(device, search, degraded=("degraded", None) in wanted)
        options: Options = [("source", device), *wanted]
        try:
            disk = _mount(fstype, options, HIDDEN | attributes, writable=writable)
        except OSError as error:
            problems.append(f"{fstype}: {os_error(error)}")
            # As the kernel goes on in its own list: another file system, or none that it has.
            if error.errno not in (errno.EINVAL, errno.ENODEV):
                break
        else:
            return disk, mounting.NOEXEC & ~attributes
    found = "; ".join(problems)
    if flags:
        found += f" (rootflags={flags})"
    raise Refused("store", device, found, "a root file system to mount")


def _mount(fstype: str, options: "Options", attributes: int, *, writable: bool) -> int:
    """Read-only where the disk is write-protected, as the kernel's mount of a root goes on."""
    if writable:
        try:
            return _cfs.fs_mount(fstype, [("rw", None), *options], attributes)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS):
                raise
    return _cfs.fs_mount(fstype, [("ro", None), *options], attributes)


def _scan(device: str, search: Search, *, degraded: bool) -> None:
    try:
        btrfs.scan(device, search.seconds, search.each, search.booted, degraded=degraded)
    except devices.NotFound as error:
        raise search.refused(error) from None


def parse_flags(flags: str) -> "tuple[Options, int]":
    """Options for the file system, which refuses what it does not know, and mount attributes.
    Refused("store"): the devices of a btrfs are found, and not named."""
    options: Options = []
    attributes = 0
    for flag in flags.split(","):
        name, equals, value = flag.partition("=")
        if name == "device":
            expected = "no device=: what belongs to a btrfs is found by its UUID"
            raise Refused("store", "rootflags=", flag, expected)
        if flag in _ATTRIBUTES:
            attributes |= _ATTRIBUTES[flag]
        elif flag and flag not in _PASSED_OVER and not name.startswith(("x-", "X-")):
            options.append((name, value if equals else None))
    return options, attributes
