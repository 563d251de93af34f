# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Composed roots that are mounted already, as mountinfo shows them, and whose upper layers.

overlayfs shows the path that it was given for a layer, and ours lead through descriptors: they say
nothing a moment later. So an upper layer is given by a link whose name says which directory it is.
"""

import _cfs
import posix

from pyinit.initrd.kernel import files, mountinfo
from pyinit.initrd.kernel.mounting import NODEV, NOEXEC, NOSUID, open_directory
from pyinit.initrd.report.errors import CfsError, Refused, Step
from pyinit.initrd.root.digest import Digest

SOURCE = "composefs:"
"""Before the digest, in what findmnt(8) shows as the source."""
SOURCE_TRANSIENT = "transient:composefs="
"""The same for a root whose changes are in memory, where bootc looks for it."""


class Existing:
    """A composed root, mounted."""

    __slots__ = ("digest", "directory", "options", "upper", "verity")

    def __init__(self, directory: int, mount: mountinfo.Mount, digest: Digest) -> None:
        self.directory = directory  # its own: a path may lead elsewhere a moment later
        self.digest = digest
        self.options = mount.options
        self.verity = "require" if "verity=require" in mount.super_options else "off"
        self.upper = layer(mount, "upperdir")


def at(target: str) -> Existing | None:
    """What is mounted on a directory, where it is a composed root: the whole of it, no bind of a
    directory of it. mountinfo alone is asked, and anybody who may mount can write it so."""
    directory = open_directory(target)
    with Step("attach", target):
        if not is_mount_point(directory):
            return None
        mount = mountinfo.of(directory)
    if mount is None or (mount.fstype, mount.root) != ("overlay", "/"):
        return None
    if not mount.source.startswith((SOURCE, SOURCE_TRANSIENT)):
        return None
    try:
        text = mount.source.removeprefix(SOURCE_TRANSIENT).removeprefix(SOURCE)
        return Existing(directory, mount, Digest.parse(text, mountinfo.PATH))
    except CfsError:
        return None


def is_mount_point(directory: int) -> bool:
    """False inside a mount. `/` is one, but in a chroot to a directory inside of a mount: mountinfo
    shows none there."""
    parent = posix.open("..", posix.O_PATH | posix.O_CLOEXEC, dir_fd=directory)
    if mountinfo.mount_id(parent) != mountinfo.mount_id(directory):
        return True
    above, here = posix.fstat(parent), posix.fstat(directory)
    if (above.st_dev, above.st_ino) != (here.st_dev, here.st_ino):
        return False
    mount = mountinfo.of(directory)
    return mount is not None and mount.target == "/"


def layer(mount: mountinfo.Mount, key: str) -> str | None:
    """The name of a mount's upperdir or workdir, which name() gives it; None: it has none."""
    for word in mount.super_options:
        if word.startswith(key + "="):
            return word.rpartition("/")[2]
    return None


def name(directory: int) -> str:
    """Of a directory, by device and inode: no other one has it as long as this is in use."""
    status = posix.fstat(directory)
    return f"cfs-{status.st_dev:x}-{status.st_ino}"


def paths(layers: tuple[int, int]) -> tuple[str, ...]:
    """Paths of upperdir and workdir that end with their names. They lead through links in a tmpfs
    that is attached nowhere."""
    options: list[tuple[str, str | None]] = [("source", "tmpfs"), ("mode", "0700"), ("size", "64k")]
    links = _cfs.fs_mount("tmpfs", options, NOSUID | NODEV | NOEXEC)
    found = []
    for directory in layers:
        called = name(directory)
        posix.symlink(f"/proc/self/fd/{directory}", called, dir_fd=links)
        found.append(f"/proc/self/fd/{links}/{called}")
    return tuple(found)


def check_unused(layers: "dict[str, int]") -> None:
    """Refused("overlay") where a composed root has one of these directories (by their paths): what
    two mounts would write there, the kernel leaves undefined."""
    with Step("overlay", mountinfo.PATH):
        names = {name(directory): path for path, directory in layers.items()}
        data = files.read(mountinfo.PATH, mountinfo.MAX)
        if not any(called.encode("ascii") in data for called in names):
            return
        mounts = mountinfo.parse(data)
    for mount in mounts:
        for key in ("upperdir", "workdir"):
            path = names.get(layer(mount, key) or "")
            if path is not None:
                found = f"in use as {key} of the mount on {mount.target}"
                raise Refused("overlay", path, found, "a directory that no other mount uses")
