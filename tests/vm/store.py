# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A small composefs repository on sealed disks.

What is on each disk (all sealed files with 4096-byte blocks and no salt):

    /repo/meta.json, /repo/objects/ab/..., /repo/images/<digest> -> ../objects/ab/...
    /image.cfs      the same image outside the repository, sealed with SHA-256
    /unsealed.cfs   the same bytes without fs-verity
    /state          empty, for upper and work directories

The image is in the repository twice, sealed with SHA-256 and with SHA-512: the same bytes under two
digests. Objects are named by SHA-256, as mkcomposefs writes them.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from . import kernels
from .cases import Case, CaseError, run_cases
from .disks import MAKERS, overlay
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .once import BUILD, made_once
from .repository import REPOSITORY_FORMAT, add_image, date_tree, fill_tree, make_repository
from .toolbox import Toolbox
from .tools import guest_tools

CACHE = BUILD / "vm-cache"
# It can all that sealing needs; any kernel reads what it sealed.
SEALING_KERNEL = kernels.STABLE

# Longer than 64 bytes: below, mkcomposefs keeps content inside the image.
LARGE = {
    "etc/os-release": b"ID=fixture\nNAME='A small root'\n" + b"# padding\n" * 10,
    "usr/bin/program": b"#!/bin/sh\necho program\n" + b"# padding\n" * 2000,
    "usr/lib/deep/er/data": bytes(range(256)) * 64,
}
SMALL = {"etc/hostname": b"fixture\n"}
DIRECTORIES = ("var", "sysroot", "run", "proc", "sys", "dev", "tmp", "usr/sbin")
LINKS = {"bin": "usr/bin", "etc/link": "hostname"}
XATTR = ("usr/bin/program", "user.fixture", b"value")


@dataclass(frozen=True)
class SealedTree:
    """A tree on the host, and the disks that are filled with it and sealed."""

    toolbox: Toolbox
    tree: Path
    seal: ClassVar[str]
    """Run in the root of the disk."""

    def disk(self, file_system: str) -> Path:
        """The sealed raw disk ("ext4", "btrfs"), made at first use. Boot overlays of it."""
        return sealed_disk(self.toolbox, self.tree, self.seal, file_system)


def seal_objects(repository: str) -> str:
    """A script. Names of objects tell the algorithm: 62 or 126 digits after "ab/"."""
    return f"""
set -e
for file in {repository}/objects/*/*; do
    name=${{file##*/}}
    if [ ${{#name}} = 126 ]; then hash=sha512; else hash=sha256; fi
    verity-enable --hash $hash "$file"
done
"""


SEAL = seal_objects("repo") + "verity-enable image.cfs\n"


@dataclass(frozen=True)
class Store(SealedTree):
    """The fixture, on the host and as sealed disks."""

    seal = SEAL
    source: Path
    """The tree that the image shows."""
    image: Path
    sha256: str
    sha512: str
    objects: dict[str, str]
    """File of the source ("usr/bin/program") to the digest of its object."""

    def copy_tree(self, directory: Path) -> Path:
        """A copy of `tree` at `directory`, to be changed and sealed by `sealed_disk`."""
        return Path(shutil.copytree(self.tree, directory, symlinks=True))

    def overlay(self, file_system: str, path: Path) -> Disk:
        """A new copy-on-write disk at `path`."""
        return Disk(overlay(self.toolbox, self.disk(file_system), path), format="qcow2")


def verity_digest(toolbox: Toolbox, file: Path, algorithm: str = "sha256") -> str:
    """The fs-verity digest in hex (4096-byte blocks, no salt), calculated on the host."""
    out = toolbox.run("fsverity", "digest", "--compact", f"--hash-alg={algorithm}", file)
    return out.strip()


def make_store(toolbox: Toolbox) -> Store:
    """Build (or find) the fixture."""
    key = _hash(
        Path(__file__).read_bytes(),
        toolbox.peers.joinpath(".stamp").read_bytes(),
        repr(REPOSITORY_FORMAT).encode(),
    )
    directory = made_once(CACHE / "store", key, lambda new: _make(toolbox, new))
    facts = json.loads((directory / "facts.json").read_text())
    return Store(
        toolbox,
        directory / "tree",
        directory / "source",
        directory / "image.cfs",
        facts["sha256"],
        facts["sha512"],
        facts["objects"],
    )


def _make(toolbox: Toolbox, directory: Path) -> None:
    source, image, tree = directory / "source", directory / "image.cfs", directory / "tree"
    _fill(source)
    repository = make_repository(tree / "repo")
    toolbox.run("mkcomposefs", f"--digest-store={repository / 'objects'}", source, image)
    facts = {
        "sha256": verity_digest(toolbox, image),
        "sha512": verity_digest(toolbox, image, "sha512"),
        "objects": {name: verity_digest(toolbox, source / name) for name in LARGE},
    }
    (directory / "facts.json").write_text(json.dumps(facts))
    for algorithm in ("sha256", "sha512"):
        add_image(repository, image, str(facts[algorithm]))
    shutil.copyfile(image, tree / "image.cfs")
    shutil.copyfile(image, tree / "unsealed.cfs")
    (tree / "state").mkdir()


def _fill(source: Path) -> None:
    fill_tree(source, DIRECTORIES, {**LARGE, **SMALL})
    for name in (*LARGE, *SMALL):
        (source / name).chmod(0o755 if name.startswith("usr/bin") else 0o644)
    for name, target in LINKS.items():
        (source / name).symlink_to(target)
    os.setxattr(source / XATTR[0], XATTR[1], XATTR[2])
    date_tree(source)


def sealed_disk(
    toolbox: Toolbox, tree: Path, script: str, file_system: str = "ext4", **size: int
) -> Path:
    """A raw disk filled with `tree` on which `script` was run once, in a guest, in its root.

    The way to make hostile disks too: `Store.copy_tree`, change it, seal it otherwise. Cached by
    content; do not write to it, boot overlays (or `Disk(discard_writes=True)`).
    CaseError: the script failed.
    """
    tools = b"".join(path.read_bytes() for path in sorted(set(guest_tools().values())))
    key = _hash(tools, repr((script, file_system, size)).encode(), *_describe(tree))

    def make(directory: Path) -> None:
        disk = directory / "disk.raw"
        MAKERS[file_system](toolbox, disk, tree, **size)
        modules = (*GUEST_MODULES, *FILE_SYSTEM_MODULES[file_system], *HASH_MODULES)
        _in_guest(toolbox, Disk(disk), script, file_system, modules)

    return made_once(CACHE / f"disk-{key[:16]}", key, make) / "disk.raw"


def _in_guest(
    toolbox: Toolbox, disk: Disk, script: str, file_system: str, modules: Sequence[str]
) -> None:
    # The script is a process of its own, so that its "exit" does not skip the unmounting.
    whole = (
        f"mount -t {file_system} /dev/vda /disk && cd /disk || exit\n"
        "sh /guest/seal; code=$?\n"
        "cd /; umount /disk || exit\nexit $code\n"
    )
    results = run_cases(
        toolbox,
        toolbox.kernel(SEALING_KERNEL),
        [Case("seal", whole, limit=300)],
        disks=[disk],
        modules=modules,
        files={"guest/seal": script},
    )
    result = results["seal"]
    if result.code:
        raise CaseError(
            f"sealing on {file_system}: exit {result.code}: {result.stdout}{result.stderr}\n"
            f"{result.kernel}"
        )


def _describe(tree: Path) -> list[bytes]:
    parts = []
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        name = str(path.relative_to(tree))
        parts += [repr((name, status.st_mode, status.st_nlink, status.st_rdev)).encode(), content]
    return parts


def _hash(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()
