# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Those who mount: how each takes a store and a digest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm.bundle import bundle
from tests.vm.product import cfs_init
from tests.vm.toolbox import Toolbox


@dataclass(frozen=True)
class Mounter:
    """A program that mounts $DIGEST of $STORE on $T (guest.sh)."""

    name: str
    command: str
    files: Callable[[Toolbox], Mapping[str, Path | str]]
    """What it needs in the guest."""


CFS_MOUNT = Mounter(
    "cfs-mount",
    'cfs-mount --object-store "$STORE" --digest "$DIGEST" "$T"',
    lambda _: {"usr/bin/cfs-mount": cfs_init()},
)

# It takes an image by its path: an image of that name is what a caller would give it.
MOUNT_COMPOSEFS = Mounter(
    "mount.composefs",
    'if [ -d "$STORE/objects" ]; then image=images objects=/objects; else image=. objects=; fi\n'
    'mount.composefs "$STORE/$image/$DIGEST" "$T" '
    '-o "basedir=$STORE$objects,digest=$DIGEST,verity"',
    lambda box: bundle("mount.composefs", "usr/sbin/mount.composefs", box.peers, box.tree),
)

MOUNTERS = (CFS_MOUNT, MOUNT_COMPOSEFS)
