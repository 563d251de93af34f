# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images of several sizes in one store: does the cost of a mount grow with the image?"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.vm.once import made_once
from tests.vm.repository import add_image, date_tree, make_repository
from tests.vm.store import CACHE, SealedTree, seal_objects, verity_digest
from tests.vm.toolbox import Toolbox

# Entries of an image, its root included.
SIZES = (2, 2_000, 64_246)
_A_DIRECTORY = 250  # entries of one
_CONTENT = b"longer than what an image holds itself\n" * 10


@dataclass(frozen=True)
class Images(SealedTree):
    """The disk, and the digest of each size."""

    seal = seal_objects("repo")
    digests: dict[int, str]


def make_images(toolbox: Toolbox) -> Images:
    """Build (or find) it."""
    key = f"{Path(__file__).read_text()} {(toolbox.peers / '.stamp').read_text()}"
    directory = made_once(CACHE / "bench-images", key, lambda new: _make(toolbox, new))
    found = json.loads((directory / "digests.json").read_text())
    return Images(toolbox, directory / "tree", {int(size): found[size] for size in found})


def _make(toolbox: Toolbox, directory: Path) -> None:
    repository = make_repository(directory / "tree" / "repo")
    digests = {}
    for size in SIZES:
        source, image = directory / "source", directory / "image"
        _fill(source, size)
        toolbox.run("mkcomposefs", f"--digest-store={repository / 'objects'}", source, image)
        digests[size] = verity_digest(toolbox, image)
        add_image(repository, image, digests[size])
        shutil.rmtree(source)
    (directory / "digests.json").write_text(json.dumps(digests))


def _fill(source: Path, size: int) -> None:
    """`size` entries, `source` included; all files have the same content, which is one object."""
    source.mkdir()
    top = _system(source) if size == SIZES[-1] else source
    left, place = size - 1 - sum(1 for _ in source.rglob("*")), top
    while left:
        if left > 1:
            place = top / f"d{left}"
            place.mkdir()
            left -= 1
        left -= _put(place, "file", min(left, _A_DIRECTORY))
    date_tree(source)


def _system(source: Path) -> Path:
    """The upper levels of a distribution: what is met before the first file. Gives a place for the
    others. `cs9-x86_64-developer` of composefs' tests, whose size is the last, has the same."""
    for name in ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var"):
        (source / name).mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        (source / name).symlink_to(f"usr/{name}")
    for name in ("home", "media", "mnt", "opt", "ostree", "root", "srv"):
        (source / name).symlink_to(f"var/{name}")
    for name in (
        "bin",
        "etc",
        "games",
        "include",
        "lib",
        "lib64",
        "libexec",
        "local",
        "sbin",
        "share",
    ):
        (source / "usr" / name).mkdir(parents=True)
    (source / "usr/tmp").symlink_to("../var/tmp")
    _put(source / "usr/bin", "program", 1008)
    return source / "usr/share"


def _put(directory: Path, name: str, count: int) -> int:
    for number in range(count):
        (directory / f"{name}{number}").write_bytes(_CONTENT)
    return count
