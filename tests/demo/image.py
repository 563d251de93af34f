# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A composefs image of a tree, by mkcomposefs, and the store that it needs."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.vm.once import made_once
from tests.vm.toolbox import Toolbox

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Image:
    """An image file and its fs-verity digest, as mkcomposefs printed it."""

    file: Path
    digest: str

    @property
    def object_name(self) -> str:
        """Where a store keeps a file of this digest, below objects/."""
        return f"{self.digest[:2]}/{self.digest[2:]}"


def build_image(destination: Path, box: Toolbox, tree: Path, key: str) -> tuple[Image, Path]:
    """The image of `tree` and the directory of its objects (ab/cdef...); made once per `key`."""

    def make(directory: Path) -> None:
        objects = directory / "objects"
        objects.mkdir()
        digest = box.run(
            "mkcomposefs", "--print-digest", f"--digest-store={objects}", tree,
            directory / "image.cfs", limit=600,
        )  # fmt: skip
        (directory / "digest").write_text(digest)

    directory = made_once(destination, key, make)
    return _read(directory), directory / "objects"


def forge_image(destination: Path, box: Toolbox, image: Image, name: str, text: str) -> Image:
    """A valid image like `image`, but for the short, inline file `name`, which says `text`."""
    if len(text) > 64:
        raise ValueError("composefs keeps at most 64 bytes inline")

    def make(directory: Path) -> None:
        lines = box.run("composefs-info", "dump", image.file).splitlines()
        [place] = [i for i, line in enumerate(lines) if line.startswith(f"{name} ")]
        # path size mode nlink uid gid rdev mtime payload content digest [xattrs]
        fields = lines[place].split(" ")
        fields[1], fields[9] = str(len(text)), text.replace("\\", "\\\\").replace("\n", "\\n")
        lines[place] = " ".join(fields)
        dump = directory / "dump"
        dump.write_text("\n".join(lines) + "\n")
        digest = box.run(
            "mkcomposefs", "--from-file", "--print-digest", dump, directory / "image.cfs"
        )
        (directory / "digest").write_text(digest)

    return _read(made_once(destination, repr((image.digest, name, text)), make))


def _read(directory: Path) -> Image:
    digest = (directory / "digest").read_text().strip()
    if not _HEX.fullmatch(digest):
        raise RuntimeError(f"mkcomposefs printed no digest: {digest!r}")
    return Image(directory / "image.cfs", digest)
