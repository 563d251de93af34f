# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk with a store at /composefs: images for the running system, and a root that lists some."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.initrd.handover import named_images
from pyinit.initrd.root.digest import Digest
from tests.demo.image import build_image

from .extension_disk import ABSENT, FORGED, LARGE, RELEASE
from .once import made_once
from .repository import REPOSITORY_FORMAT, add_image, date_tree, fill_tree, make_repository
from .store import CACHE, SealedTree, seal_objects
from .toolbox import Toolbox

LISTS = named_images.DIRECTORY.lstrip("/")
# What the images have, by their names. The root lists them.
APPS = {"one": {"bin/one": b"one\n" + LARGE}, "two": {"bin/two": b"two\n" + LARGE}}
_DIRECTORIES = ("etc", "var", "run", "proc", "sys", "dev", "sysroot")


@dataclass(frozen=True)
class AppDisk(SealedTree):
    """The disk on each file system, and the digests of "root", "one" and "two"."""

    seal = seal_objects("composefs")
    digests: dict[str, str]

    def carried(self, **apps: str) -> bytes:
        """The carried file for the root and these: `both="one"`, or a digest."""
        named = {
            f"app.{name}": Digest.parse(self.digests.get(text, text), "a test")
            for name, text in apps.items()
        }
        return payload_write.write([Digest.parse(self.digests["root"], "a test")], named)


def make_app_disk(toolbox: Toolbox) -> AppDisk:
    """Build (or find) it."""
    key = repr((Path(__file__).read_bytes(), REPOSITORY_FORMAT))
    directory = made_once(CACHE / "apps", key, _make)
    return AppDisk(
        toolbox, directory / "tree", json.loads((directory / "digests.json").read_text())
    )


def _make(directory: Path) -> None:
    store = make_repository(directory / "tree" / "composefs")
    (directory / "tree" / "state").mkdir()
    digests = {name: _add(store, directory, name, files) for name, files in APPS.items()}
    add_image(store, directory / "one.made" / "image.cfs", FORGED)
    lists = {
        "listed": _list(digests["one"]),
        "both": _list(digests["one"]),
        "differs": _list(digests["two"]),
        "placed": _list(digests["two"], "store=/sysroot/composefs\n"),
        "misplaced": _list(digests["two"], "store=/nowhere\n"),
        "broken": _list(digests["one"], "verity=off\n"),
        "absent": _list(ABSENT),
        "forged": _list(FORGED),
    }
    root = {f"{LISTS}/{name}.conf": data for name, data in lists.items()}
    digests["root"] = _add(
        store, directory, "root", {"usr/lib/os-release": RELEASE, "usr/canary": LARGE, **root}
    )
    (directory / "digests.json").write_text(json.dumps(digests))


def _list(digest: str, more: str = "") -> bytes:
    return f"cfsimg1\ndigest=fsverity-sha256-12:{digest}\n{more}".encode()


def _add(store: Path, directory: Path, name: str, files: dict[str, bytes]) -> str:
    tree = directory / name
    fill_tree(tree, _DIRECTORIES if name == "root" else (), files)
    if name == "root":
        (tree / LISTS / "link.conf").symlink_to("listed.conf")
    date_tree(tree)
    image, objects = build_image(directory / f"{name}.made", tree, name)
    shutil.copytree(objects, store / "objects", dirs_exist_ok=True)
    add_image(store, image.file, image.digest)
    return image.digest
