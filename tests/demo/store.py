# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The store on its disk: filled on this machine by `cfs-store add`, sealed in a guest.

fs-verity is enabled by a kernel that has it; the machine that builds may not.
"""

import os
import stat
from pathlib import Path

from tests.demo.command import product
from tests.demo.guest_python import python_files
from tests.demo.image import Image
from tests.vm.cases import Case, run_cases
from tests.vm.disks import MIB, ext4
from tests.vm.guest import Disk
from tests.vm.toolbox import Kernel, Toolbox

_BLOCK = 4096
STORE = "/composefs"
_SEAL_LIMIT = 300


def fill_store(directory: Path, objects: Path, images: list[Image]) -> None:
    """A repository at `directory` with `objects` and `images`."""
    arguments = [argument for image in images for argument in ("--image", str(image.file))]
    printed = product(
        "cfs-store", "add", "--create", "--object-store", str(directory), "--verity", "off",
        *arguments, str(objects),
    ).split()  # fmt: skip
    expected = [f"sha256:{image.digest}" for image in images]
    if printed != expected:
        raise RuntimeError(
            f"the digests of cfs-store add and image disagree: {printed}, {expected}"
        )


def make_root_image(box: Toolbox, file: Path, tree: Path) -> Path:
    """An ext4 image of `tree`, large enough for the Merkle trees to come."""
    size = 0
    for directory, _, names in os.walk(tree):
        size += _BLOCK
        for name in names:
            found = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(found.st_mode):
                # The tree (1/127) and the descriptor come behind the content.
                size += found.st_size + found.st_size // 127 + 4 * _BLOCK
    size = size * 5 // 4 + 64 * MIB  # inode tables, journal
    return ext4(box, file, tree, size - size % MIB)


def seal_in_guest(box: Toolbox, kernel: Kernel, root_image: Path, log: Path) -> str:
    """Seals the store on `root_image` in a guest; what `cfs-store seal` said."""
    case = Case(
        "seal",
        "mkdir -p /mnt/root && mount -t ext4 /dev/vda /mnt/root || exit\n"
        f"python cfs-store seal /mnt/root{STORE} && umount /mnt/root\n",
        limit=_SEAL_LIMIT,
        leaks=True,
        stdout="^[0-9]+ objects: [0-9]+ sealed",
    )
    results = run_cases(
        box, kernel, [case], disks=[Disk(root_image)], memory=1024, cpus=2,
        files=python_files(box), log=log,
    )  # fmt: skip
    return results.check("seal").stdout.strip()
