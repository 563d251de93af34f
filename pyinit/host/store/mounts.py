# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The images that mounts use, in every mount namespace that can be seen.

cfs-mount, cfs-setup-root and bootc say the digest as the source of the overlay; composefs' own
mount does not. What does not say it, and may have its contents in this store, is kept as an error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyinit.host.store.roots import Needed, digest_of_hex
from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.kernel.mountinfo import Mount
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest

PROC = "/proc"
# A layer that was given as a descriptor. The number is of the process that mounted it: here it may
# be open too, on something else.
_DESCRIPTORS = ("/proc/", "/dev/fd/")
_MAX = mountinfo.MAX
# In the order in which they are tried: one is the end of the other.
_SOURCES = ("transient:composefs=", "composefs:")


class Found(NamedTuple):
    """A mount, and the root directory below which its paths lead somewhere."""

    mount: Mount
    root: str

    @property
    def digest(self) -> Digest | None:
        """What its source says; None: nothing."""
        for prefix in _SOURCES:
            if self.mount.source.startswith(prefix):
                return digest_of_hex(self.mount.source.removeprefix(prefix))
        return None


def keep(needed: Needed, excepted: Sequence[str]) -> None:
    """Keeps the image of each. `excepted`: mount points that are another store's. Each container
    has one at `/`: so an image that is here is kept all the same."""
    for found in overlays():
        why = f"the mount at {found.mount.target}"
        digest = found.digest
        if digest is not None and needed.has_image(digest):
            needed.keep_image(digest, why, "mount")
        elif found.mount.target not in excepted and _may_use(
            found, os.fspath(needed.store.objects)
        ):
            said = "which is not in the store" if digest is not None else "which is no digest"
            text = f"an overlay of '{found.mount.source}', {said}, and its objects may be here"
            wanted = f"--except {found.mount.target}, if they are not"
            needed.unread.append(Refused("store", found.mount.target, text, wanted))


def overlays() -> list[Found]:
    """Those that have layers for contents alone, or say a digest: each once."""
    seen: dict[tuple[str, str, str, str], Found] = {}
    for root, data in _namespaces():
        for mount in mountinfo.parse(data):
            if mount.fstype != "overlay":
                continue
            found = Found(mount, root)
            if found.digest is not None or _data_layers(mount):
                key = (mount.device, mount.source, mount.target, ",".join(mount.super_options))
                seen.setdefault(key, found)
    return list(seen.values())


def _namespaces() -> Iterator[tuple[str, bytes]]:
    """(root directory, mountinfo) of each namespace with a process in it, and of each root in it.
    Processes of others, without the right to look at them, and what has ended are passed over."""
    seen = set()
    for name in ["self", *filter(str.isdigit, os.listdir(PROC))]:
        process = f"{PROC}/{name}"
        try:
            status = os.stat(f"{process}/root/.")
            key = (os.readlink(f"{process}/ns/mnt"), status.st_dev, status.st_ino)
            if key in seen:
                continue
            with open(f"{process}/mountinfo", "rb") as file:
                data = file.read(_MAX)
        except OSError:
            continue
        seen.add(key)
        yield f"{process}/root", data


def _data_layers(mount: Mount) -> list[str]:
    """`lowerdir=A::B` or, since Linux 6.8, `datadir+=B`."""
    layers = []
    for option in mount.super_options:
        key, _, value = option.partition("=")
        if key == "datadir+":
            layers.append(mountinfo.unescape(os.fsencode(value)))
        elif key == "lowerdir" and "::" in value:
            layers += mountinfo.unescape(os.fsencode(value)).split("::")[1:]
    return layers


def _may_use(found: Found, objects: str) -> bool:
    """Unless each of its layers is to be seen, and is another directory than `objects`."""
    own = os.stat(objects)
    layers = _data_layers(found.mount)
    for layer in layers:
        try:
            status = os.stat(found.root + layer) if _leads_somewhere(layer) else None
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESRCH):
                return True
            status = None
        if status is None or (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
            return True
    return not layers


def _leads_somewhere(layer: str) -> bool:
    """Does it mean the same to this process as to the one that mounted it?"""
    path = os.path.normpath(layer)
    return os.path.isabs(path) and not f"/{path.lstrip('/')}".startswith(_DESCRIPTORS)
