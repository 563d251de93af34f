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
    key = f"{Path(__file__).read_text()} {(toolbox.tree / '.stamp').read_text()}"
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
    left, place = size - 1, source
    while left:
        if left > _A_DIRECTORY:
            place = source / f"d{left}"
            place.mkdir()
            left -= 1
        for number in range(min(left, _A_DIRECTORY)):
            (place / f"file{number}").write_bytes(_CONTENT)
            left -= 1
    date_tree(source)
