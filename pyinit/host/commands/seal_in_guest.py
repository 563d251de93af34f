# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-seal-disk --vm TREE DISK`: runs cfs-seal-disk in a virtual machine."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pyinit.host import guest
from pyinit.host.commands.command import Parser, run, say
from pyinit.initrd.report.errors import SystemFailure, printable

NAME = "cfs-seal-disk"
# What the script calls.
PROGRAMS = (
    "blkid", "id", "losetup", "mktemp", "mount", "partx", "rmdir", "sed", "stat", "tr", "umount",
)  # fmt: skip
# To reach the disk, the file systems, and the sums of them and of fs-verity. The kernel finds no
# modprobe when it wants one.
DRIVERS = (
    "virtio_pci", "virtio_blk", "crc32c_generic", "crc32_generic", "sha256_generic",
    "sha512_generic", "xxhash_generic", "blake2b_generic", "ext4", "btrfs", "f2fs",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: those of the script, and 2 where the machine cannot be made or started."""
    parser = Parser(prog=NAME)
    parser.add_argument("script", type=Path)
    parser.add_argument("tree", type=Path)
    parser.add_argument("disk", type=Path)
    parser.set_defaults(run=_seal)
    return run(NAME, parser, arguments)


def _seal(options: argparse.Namespace) -> int:
    if not options.disk.is_file():
        raise SystemFailure("source", str(options.disk), "not a disk image", "a regular file")
    kernel = guest.find_kernel(options.tree)
    archive = guest.initrd(
        kernel, f"exec sh /usr/bin/{options.script.name} /dev/vda\n",
        files=[options.script], programs=PROGRAMS, commands=["cfs-store"], drivers=DRIVERS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "initrd")
        place.write_bytes(archive)
        return guest.run(kernel, place, options.disk, lambda line: say(printable(line)))


if __name__ == "__main__":
    raise SystemExit(main())
