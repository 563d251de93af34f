# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk to boot from: a store at /composefs with root images whose /sbin/init reports.

    /composefs/meta.json, objects/, images/     as composefs-rs has it
    /marker                                     to be seen at /sysroot of the booted root
    /usr -> /usr, /etc/fstab, ...               nobody's business: see bait.py

The images: "whole"; "no-var", "no-etc", "no-run" without that directory; "no-init" with nothing to
execute; "format-2", which is "whole" in composefs-rs' first format.
"""

import _cfshost
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.store.make_image import RUST
from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

from . import bait
from .once import made_once
from .repository import REPOSITORY_FORMAT, add_image, date_tree, fill_tree, make_repository
from .store import CACHE, SealedTree, seal_objects, verity_digest
from .toolbox import Toolbox
from .tools import root_init

INIT = "usr/sbin/init"
CARRIED = payload.CARRIED.lstrip("/")
MARKER = "the disk itself\n"

_DIRECTORIES = ("etc", "var", "run", "proc", "sys", "dev", "sysroot", "usr/sbin")
LACKING = {"whole": None, "no-var": "var", "no-etc": "etc", "no-run": "run", "no-init": INIT}


@dataclass(frozen=True)
class RootDisk(SealedTree):
    """The disk on each file system, and the digests of its images."""

    seal = seal_objects("composefs")
    digests: dict[str, str]

    def carried(self, *names: str) -> bytes:
        """The carried file for these images, or for digests that are given as such."""
        digests = [self.digests.get(name, name) for name in names]
        return payload_write.write([Digest.parse(digest, "a test") for digest in digests])


def make_rootdisk(toolbox: Toolbox) -> RootDisk:
    """Build (or find) it."""
    key = repr(
        (
            Path(__file__).read_bytes(),
            Path(bait.__file__).read_bytes(),
            root_init().read_bytes(),
            (toolbox.peers / ".stamp").read_bytes(),
            REPOSITORY_FORMAT,
        )
    )
    directory = made_once(CACHE / "rootdisk", key, lambda new: _make(toolbox, new))
    digests = json.loads((directory / "digests.json").read_text())
    return RootDisk(toolbox, directory / "tree", digests)


def _make(toolbox: Toolbox, directory: Path) -> None:
    store = make_repository(directory / "tree" / "composefs")
    (directory / "tree" / "marker").write_text(MARKER)
    bait.fill(directory / "tree", usr_link=True)
    digests = {}
    for name, lacking in LACKING.items():
        image = directory / f"{name}.cfs"
        _fill(directory / name, lacking)
        toolbox.run("mkcomposefs", f"--digest-store={store / 'objects'}", directory / name, image)
        digests[name] = verity_digest(toolbox, image)
        add_image(store, image, digests[name])
    image = directory / "format-2.cfs"
    dump = toolbox.run("composefs-info", "dump", directory / "whole.cfs").encode()
    image.write_bytes(_cfshost.make_image(dump, *RUST))
    digests["format-2"] = verity_digest(toolbox, image)
    add_image(store, image, digests["format-2"])
    (directory / "digests.json").write_text(json.dumps(digests))


def _fill(root: Path, lacking: str | None) -> None:
    fill_tree(root, (name for name in _DIRECTORIES if name != lacking), {})
    (root / "sbin").symlink_to("usr/sbin")
    if lacking != INIT:
        shutil.copyfile(root_init(), root / INIT)
        (root / INIT).chmod(0o755)
    (root / "usr/canary").write_text("longer than what an image holds itself\n" * 100)
    if lacking != "etc":
        (root / "etc/hostname").write_text("booted\n")
    date_tree(root)
