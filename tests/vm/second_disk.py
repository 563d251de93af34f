# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Disks with images in their store that are second initrds, or not.

Beside the roots of rootdisk.py: "again": our program once more. "measuring": it extends a PCR by
the root. "rescue": its configuration finds no store, and it ends in the image's own shell, which is
the program that reports. "deaf": its configuration does not ask the first initrd. "empty": without
/init. They lack kernel modules: the first has loaded them.

Beside the root of systemd_root.py: what dracut made, with systemd.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from tests.demo.image import build_image

from .disks import MIB
from .initrd import CONFIG, configuration
from .once import STAMP, made_once
from .product import cfs_init
from .repository import REPOSITORY_FORMAT, add_image, date_tree, fill_tree, make_repository
from .rootdisk import RootDisk
from .store import CACHE, SealedTree, seal_objects, sealed_disk
from .systemd_root import SystemdRoot, rounded
from .toolbox import Toolbox
from .tools import root_init

SETTINGS: dict[str, dict[str, str]] = {
    "again": {"digest_source": "first-initrd", "failure": "poweroff"},
    "measuring": {"digest_source": "first-initrd", "failure": "poweroff", "measure_pcr": "15"},
    "rescue": {"digest_source": "first-initrd", "failure": "shell", "store": "/nowhere"},
    "deaf": {"failure": "poweroff"},
    "empty": {},
}
ABSENT = "ab" * 32
"""The digest of an image that is not there."""
FORGED = "cd" * 32
"""The name of one that is another."""


def carried(root: str, initrd: str) -> bytes:
    """The carried file for these digests."""
    one, other = (Digest.parse(digest, "a test") for digest in (root, initrd))
    return payload_write.write([one], {"initrd": other})


@dataclass(frozen=True)
class SecondDisk(SealedTree):
    """The disk on each file system, and the digests of its images by name."""

    seal = seal_objects("composefs")
    digests: dict[str, str]

    def carried(self, initrd: str) -> bytes:
        """The carried file for the root and this image, or digest."""
        return carried(self.digests["whole"], self.digests.get(initrd, initrd))


def make_second_disk(toolbox: Toolbox, rootdisk: RootDisk) -> SecondDisk:
    """Build (or find) it."""
    parts = (Path(__file__), cfs_init(), root_init())
    key = repr((*(part.read_bytes() for part in parts), rootdisk.digests, REPOSITORY_FORMAT))
    directory = made_once(CACHE / "second", key, lambda new: _make(rootdisk, new))
    digests = json.loads((directory / "digests.json").read_text())
    return SecondDisk(toolbox, directory / "tree", digests)


def _make(rootdisk: RootDisk, directory: Path) -> None:
    shutil.copytree(rootdisk.tree, directory / "tree", symlinks=True)
    store = directory / "tree" / "composefs"
    digests = dict(rootdisk.digests)
    for name, settings in SETTINGS.items():
        tree = directory / name
        fill_tree(tree, ("dev", "proc", "run", "sys"), {CONFIG: configuration(**settings)})
        programs = {"init": cfs_init(), "bin/sh": root_init()}
        for place, program in programs.items() if name != "empty" else ():
            (tree / place).parent.mkdir(exist_ok=True)
            shutil.copyfile(program, tree / place)
            (tree / place).chmod(0o755)
        date_tree(tree)
        digests[name] = _add(store, directory / f"{name}.made", tree, name)
    add_image(store, directory / "again.made" / "image.cfs", FORGED)
    (directory / "digests.json").write_text(json.dumps(digests))


def _add(store: Path, made: Path, tree: Path, key: str) -> str:
    image, objects = build_image(made, tree, key)
    shutil.copytree(objects, store / "objects", dirs_exist_ok=True)
    add_image(store, image.file, image.digest)
    return image.digest


def make_systemd_disk(
    toolbox: Toolbox, root: SystemdRoot, archive: Path, use: str
) -> tuple[Path, str]:
    """A disk with that root and an initrd, which dracut made; and the initrd's digest. One is kept
    for each use."""

    def make(directory: Path) -> None:
        tree = directory / "initrd"
        tree.mkdir()
        subprocess.run(
            f"zstd -dc {archive} | cpio -idm --quiet", shell=True, cwd=tree, check=True, timeout=600
        )
        store = make_repository(directory / "tree" / "composefs")
        (directory / "tree" / "state").mkdir()
        digest = _add(store, directory / "made", tree, "")
        shutil.copytree(root.objects, store / "objects", dirs_exist_ok=True)
        add_image(store, root.first.file, root.first.digest)
        (directory / "digest").write_text(digest)
        files = (path.lstat() for path in (directory / "tree").rglob("*"))
        size = sum(file.st_size + 8192 for file in files) * 5 // 4 + 96 * MIB
        disk = sealed_disk(
            toolbox, directory / "tree", seal_objects("composefs"), size=rounded(size)
        )
        shutil.rmtree(tree)
        shutil.rmtree(directory / "tree")
        shutil.rmtree(directory / "made")
        (directory / "disk").symlink_to(Path("..", *disk.parts[-2:]))

    parts = Path(__file__).read_bytes(), (archive.parent / STAMP).read_text()
    key = repr((*parts, root.first.digest, REPOSITORY_FORMAT))
    made = made_once(CACHE / f"second-{use}", key, make)
    return (made / "disk").resolve(), (made / "digest").read_text()
