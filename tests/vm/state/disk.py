# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The disk of the cases: a store with two images, file systems in files, and what bootc has."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.vm.disks import MIB, btrfs, ext4
from tests.vm.images import Member, erofs, redirected
from tests.vm.once import made_once
from tests.vm.repository import REPOSITORY_FORMAT, add_image
from tests.vm.store import CACHE, LARGE, SealedTree, Store, seal_objects, verity_digest
from tests.vm.toolbox import Toolbox

from . import bootc

LABEL = "system_u:object_r:etc_t:s0"
_XATTRS = {"security.selinux": LABEL.encode(), "user.kept": b"yes"}


def _members(store: Store, hostname: bytes = b"fixture\n") -> list[Member]:
    def stored(name: str, source: str) -> Member:
        return redirected(name, store.objects[source], len(LARGE[source]))

    return [
        Member("etc/", mode=0o751, owner=(3, 4), xattrs=_XATTRS),
        Member("etc/hostname", hostname),
        Member("etc/link", link="hostname", mode=0o777),
        stored("etc/os-release", "etc/os-release"),
        Member("etc/secret", b"secret\n", mode=0o600, owner=(5, 6), xattrs=_XATTRS),
        Member("etc/sub/", mode=0o700),
        stored("etc/sub/data", "usr/lib/deep/er/data"),
        Member("var/", mode=0o755, owner=(7, 8), xattrs=_XATTRS),
        Member("var/lib/", mode=0o755),
        Member("var/lib/shipped", b"shipped\n"),
        *(Member(f"{name}/") for name in ("sysroot", "dev", "proc", "run", "sys")),
        stored("usr/bin/program", "usr/bin/program"),
    ]


@dataclass(frozen=True)
class StateDisk(SealedTree):
    """The disk on each file system, and the digests of the images in its store: the one of the
    cases, and another for a soft reboot; and of those by cfsctl, by their repositories."""

    seal = "".join(map(seal_objects, ("repo", bootc.SHA512, bootc.SHA256)))
    digest: str
    second: str
    cfsctl: dict[str, str]


def make_disk(toolbox: Toolbox, store: Store) -> StateDisk:
    """/repo with the images, /images with file systems in files."""

    def make(directory: Path) -> None:
        tree = store.copy_tree(directory / "tree")
        for name, hostname in (("digest", b"fixture\n"), ("second", b"second\n")):
            image = erofs(toolbox, directory / "image.cfs", _members(store, hostname))
            digest = verity_digest(toolbox, image)
            add_image(tree / "repo", image, digest)
            (directory / name).write_text(digest)
        (directory / "cfsctl").write_text(json.dumps(bootc.unpack(tree)))
        (tree / "images").mkdir()
        (directory / "empty").mkdir()
        for name in ("ext4", "ext4-overlay", "small", "twice"):
            ext4(toolbox, tree / "images" / name, directory / "empty", 4 * MIB)
        for name in ("btrfs", "btrfs-overlay"):
            btrfs(toolbox, tree / "images" / name, directory / "empty", 120 * MIB)
        (tree / "images/nothing").write_bytes(bytes(1 << 20))

    made = bootc.REPOSITORIES.read_bytes(), bootc.LINK
    key = repr((_members(store), 4, store.sha256, REPOSITORY_FORMAT, made))
    directory = made_once(CACHE / "state-disk", key, make)
    digest, second = ((directory / name).read_text() for name in ("digest", "second"))
    cfsctl = json.loads((directory / "cfsctl").read_text())
    return StateDisk(toolbox, directory / "tree", digest, second, cfsctl)
