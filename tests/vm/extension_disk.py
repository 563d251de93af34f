# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk with a store at /composefs: a small root, and images that are extensions of it, or not."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from tests.demo.image import build_image

from .once import made_once
from .repository import REPOSITORY_FORMAT, add_image, date_tree, fill_tree, make_repository
from .store import CACHE, SealedTree, seal_objects
from .toolbox import Toolbox

RELEASE = b'PRETTY_NAME="A root"\nID=debian\nVERSION_ID="13"\n'
ANOTHER = RELEASE.replace(b"13", b"12")
# Longer than what an image holds itself.
LARGE = b"as long as it takes to have an object of its own\n" * 100
_SYSEXT, _CONFEXT = "usr/lib/extension-release.d", "etc/extension-release.d"

FILES: dict[str, dict[str, bytes]] = {
    "root": {"usr/lib/os-release": RELEASE, "usr/canary": LARGE},
    "debug": {f"{_SYSEXT}/extension-release.debug": RELEASE, "usr/bin/debug": LARGE},
    "site": {f"{_CONFEXT}/extension-release.site": RELEASE, "etc/site": b"site\n" + LARGE},
    "old": {f"{_SYSEXT}/extension-release.old": ANOTHER, "usr/bin/old": LARGE},
    "silent": {"usr/bin/silent": LARGE},
    # Its object is not in the store: the file that is read whole.
    "hollow": {f"{_SYSEXT}/extension-release.hollow": RELEASE, "usr/bin/hollow": b"h" + LARGE},
}
ABSENT = "ab" * 32
"""The digest of an image that is not there."""
FORGED = "cd" * 32
"""The name of one that is another."""
_DIRECTORIES = ("etc", "var", "run", "proc", "sys", "dev", "sysroot")


@dataclass(frozen=True)
class ExtensionDisk(SealedTree):
    """The disk on each file system, and the digests of its images by their names in FILES."""

    seal = seal_objects("composefs")
    digests: dict[str, str]

    def carried(self, **extensions: str) -> bytes:
        """The carried file for the root and these: `sysext_debug="debug"`, or a digest."""
        named = {
            key.replace("_", "."): Digest.parse(self.digests.get(name, name), "a test")
            for key, name in extensions.items()
        }
        return payload_write.write([Digest.parse(self.digests["root"], "a test")], named)


def make_extension_disk(toolbox: Toolbox) -> ExtensionDisk:
    """Build (or find) it."""
    key = repr((Path(__file__).read_bytes(), REPOSITORY_FORMAT))
    directory = made_once(CACHE / "extensions", key, _make)
    digests = json.loads((directory / "digests.json").read_text())
    return ExtensionDisk(toolbox, directory / "tree", digests)


def _make(directory: Path) -> None:
    store = make_repository(directory / "tree" / "composefs")
    (directory / "tree" / "state").mkdir()
    digests = add_extensions(store, directory, FILES)
    add_image(store, directory / "debug.made" / "image.cfs", FORGED)
    (directory / "digests.json").write_text(json.dumps(digests))


def add_extensions(store: Path, directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Makes these of FILES in `directory`, and puts them into the store; their digests."""
    digests = {}
    for name in names:
        tree, files = directory / name, FILES[name]
        fill_tree(tree, _DIRECTORIES if name == "root" else (), files)
        date_tree(tree)
        image, objects = build_image(directory / f"{name}.made", tree, name)
        if name != "hollow":
            shutil.copytree(objects, store / "objects", dirs_exist_ok=True)
        add_image(store, image.file, image.digest)
        digests[name] = image.digest
    return digests
