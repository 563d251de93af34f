# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The disks of the table: a store with hostile images beside it, and the same tampered with."""

import _cfshost
import json
import mmap
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.store.make_image import RUST
from tests.vm.disks import BLOCK, flip_byte
from tests.vm.images import METACOPY, REDIRECT, Member, erofs, metacopy, redirected
from tests.vm.once import made_once
from tests.vm.repository import (
    REPOSITORY_FORMAT,
    add_image,
    date_tree,
    fill_tree,
    make_repository,
    object_path,
)
from tests.vm.rootdisk import make_rootdisk
from tests.vm.store import CACHE, SealedTree, seal_objects, verity_digest
from tests.vm.toolbox import Toolbox

CANARY = "etc/canary"
PROGRAM = "usr/bin/program"
DATA = "usr/lib/data"
# Larger than what btrfs keeps inside its metadata.
CONTENT = {
    CANARY: b"canary\n" * 2000,
    PROGRAM: b"#!/bin/sh\n" + b"# program\n" * 2000,
    DATA: b"data " * 3000,
}
SMALL = {"etc/hostname": b"hostname\n"}
_DIRECTORIES = ("var", "run", "proc", "sys", "dev", "sysroot")


@dataclass(frozen=True)
class MatrixDisks(SealedTree):
    """The disks, and the digests by the names that rows use."""

    seal = seal_objects("repo") + seal_objects("composefs")
    names: dict[str, str]

    def tampered(self, file_system: str, directory: Path) -> dict[str, Path]:
        """By name of the variant: copies of the disk in `directory`, one block changed in each."""
        image = (self.tree / "repo" / object_path(self.names["D"])).read_bytes()
        blocks = {
            "superblock": image[:BLOCK],
            "canary": CONTENT[CANARY][:BLOCK],
            "program": CONTENT[PROGRAM][BLOCK : 2 * BLOCK],
        }
        return {
            name: _tamper(self.toolbox, self.disk(file_system), directory / name, block)
            for name, block in blocks.items()
        }


def _tamper(toolbox: Toolbox, source: Path, copy: Path, block: bytes) -> Path:
    """A copy of the raw disk with one byte changed wherever it has this block."""
    toolbox.run("qemu-img", "convert", "-O", "raw", source, copy)
    places = []
    with copy.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(block)
        while at >= 0:
            if at % BLOCK == 0:
                places.append(at)
            at = data.find(block, at + 1)
    if not places:
        raise ValueError(f"{source} has no such block")
    for at in places:
        flip_byte(copy, at + 100)
    return copy


def make_disks(toolbox: Toolbox) -> MatrixDisks:
    """Build (or find) the tree."""
    rootdisk = make_rootdisk(toolbox)
    key = repr(
        (
            Path(__file__).read_bytes(),
            (toolbox.tree / ".stamp").read_bytes(),
            (toolbox.peers / ".stamp").read_bytes(),
            rootdisk.digests,
            REPOSITORY_FORMAT,
        )
    )
    directory = made_once(
        CACHE / "matrix", key, lambda new: _make(toolbox, new, rootdisk.tree / "composefs")
    )
    names = json.loads((directory / "names.json").read_text())
    names["WHOLE"], names["NO_VAR"] = rootdisk.digests["whole"], rootdisk.digests["no-var"]
    return MatrixDisks(toolbox, directory / "tree", names)


def _make(toolbox: Toolbox, directory: Path, roots: Path) -> None:
    tree, source = directory / "tree", directory / "source"
    repository, hostile = make_repository(tree / "repo"), tree / "hostile"
    hostile.mkdir()
    fill_tree(source, _DIRECTORIES, {**CONTENT, **SMALL})
    date_tree(source)
    shutil.copytree(source, tree / "expected")
    image = tree / "image.cfs"
    toolbox.run("mkcomposefs", f"--digest-store={repository / 'objects'}", source, image)
    names = {"D": verity_digest(toolbox, image), "E": verity_digest(toolbox, image, "sha512")}
    for digest in names.values():
        add_image(repository, image, digest)
    for name, file in (("CANARY", CANARY), ("PROGRAM", PROGRAM), ("DATA", DATA)):
        names[name] = verity_digest(toolbox, source / file)
    (source / "etc/hostname").write_text("another\n")
    date_tree(source)
    toolbox.run("mkcomposefs", source, tree / "other.cfs")
    names["OTHER"] = verity_digest(toolbox, tree / "other.cfs")
    shutil.copytree(roots, tree / "composefs", symlinks=True)
    _hostile_images(toolbox, hostile, names, image.read_bytes())
    # What redirects that climb out would reach: right content, with fs-verity.
    shutil.copyfile(tree / "expected" / PROGRAM, repository / "outside")
    _in_format_2(toolbox, hostile / "format-2", names, image)
    (directory / "names.json").write_text(json.dumps(names))


def _in_format_2(toolbox: Toolbox, path: Path, names: dict[str, str], image: Path) -> None:
    """The same root as composefs-rs' first format has it."""
    dump = toolbox.run("composefs-info", "dump", image).encode()
    path.write_bytes(_cfshost.make_image(dump, *RUST))
    names["FORMAT_2"] = verity_digest(toolbox, path)


def _hostile_images(toolbox: Toolbox, directory: Path, names: dict[str, str], image: bytes) -> None:
    for name, members in _members(names):
        erofs(toolbox, directory / name, members)
    (directory / "empty").write_bytes(b"")
    (directory / "short").write_bytes(image[:1500])
    (directory / "cut").write_bytes(image[:BLOCK])
    magic = bytearray(image)
    magic[1024] ^= 0xFF
    (directory / "magic").write_bytes(magic)
    version = bytearray(image)
    version[4] ^= 0xFF
    (directory / "version").write_bytes(version)
    (directory / "tail").write_bytes(image + bytes(8 * BLOCK))


def _members(names: dict[str, str]) -> Iterator[tuple[str, list[Member]]]:
    """Images in which one file says something wrong."""

    def image(name: str, wrong: Member) -> tuple[str, list[Member]]:
        members = {
            file: redirected(file, names[key], len(CONTENT[file]))
            for key, file in (("CANARY", CANARY), ("PROGRAM", PROGRAM), ("DATA", DATA))
        }
        members[wrong.name] = wrong
        return name, [
            *(Member(f"{directory}/", mode=0o755) for directory in ("etc", "usr", "usr/bin")),
            *members.values(),
            Member("etc/hostname", SMALL["etc/hostname"]),
        ]

    size, digest = len(CONTENT[PROGRAM]), names["PROGRAM"]

    def redirect(target: str, file: str = PROGRAM, key: str = "PROGRAM") -> Member:
        wrong = redirected(file, names[key], len(CONTENT[file]))
        wrong.xattrs[REDIRECT] = target.encode()
        return wrong

    right = redirected(PROGRAM, digest, size)
    no_metacopy = redirected(PROGRAM, digest, size)
    del no_metacopy.xattrs[METACOPY]
    no_digest = redirected(PROGRAM, digest, size)
    no_digest.xattrs[METACOPY] = metacopy("")

    yield image("good", right)
    yield image("climbs", redirect("/../outside"))
    yield image("climbs-in-the-middle", redirect(f"/{digest[:2]}/../../outside"))
    yield image("climbs-canary", redirect("/../outside", CANARY, "CANARY"))
    yield image("relative", redirect("../outside"))
    yield image("no-metacopy", no_metacopy)
    yield image("no-digest", no_digest)
    yield image("bad-version", redirected(PROGRAM, digest, size, version=1))
    yield image("bad-length", redirected(PROGRAM, digest, size, length=20))
    yield image("bad-algorithm", redirected(PROGRAM, digest, size, algorithm=9))
    yield image("other-algorithm", redirected(PROGRAM, digest, size, algorithm=2))
    yield image("bad-flags", redirected(PROGRAM, digest, size, flags=1))
