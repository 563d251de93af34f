# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A composefs image of a tree, and the store that it needs, by `cfs-store image`."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.demo.command import product
from tests.vm.once import made_once

_HEX = re.compile(r"[0-9a-f]{64}")
_MADE = "by cfs-store image"


@dataclass(frozen=True)
class Image:
    """An image file and its fs-verity digest, as it was printed."""

    file: Path
    digest: str

    @property
    def object_name(self) -> str:
        """Where a store keeps a file of this digest, below objects/."""
        return f"{self.digest[:2]}/{self.digest[2:]}"


def build_image(destination: Path, tree: Path, key: str) -> tuple[Image, Path]:
    """The image of `tree` and the directory of its objects (ab/cdef...); made once per `key`."""

    def make(directory: Path) -> None:
        _make(directory, "--create", "--object-store", directory / "store", "--verity", "off", tree)

    directory = made_once(destination, f"{_MADE} {key}", make)
    return _read(directory), directory / "store/objects"


def forge_image(destination: Path, image: Image, name: str, text: str) -> Image:
    """A valid image like `image`, but for the short, inline file `name`, which says `text`."""
    if len(text) > 64:
        raise ValueError("composefs keeps at most 64 bytes inline")

    def make(directory: Path) -> None:
        lines = product("cfs-store", "dump", str(image.file)).splitlines()
        [place] = [i for i, line in enumerate(lines) if line.startswith(f"{name} ")]
        # path size mode nlink uid gid rdev mtime payload content digest [xattrs]
        fields = lines[place].split(" ")
        fields[1], fields[9] = str(len(text)), text.replace("\\", "\\\\").replace("\n", "\\n")
        lines[place] = " ".join(fields)
        dump = directory / "dump"
        dump.write_text("\n".join(lines) + "\n")
        _make(directory, dump)

    return _read(made_once(destination, repr((_MADE, image.digest, name, text)), make))


def _make(directory: Path, *arguments: str | Path) -> None:
    digest = product(
        "cfs-store", "image", "-o", str(directory / "image.cfs"), "--print-digest",
        *map(str, arguments),
    )  # fmt: skip
    (directory / "digest").write_text(digest.removeprefix("sha256:"))


def _read(directory: Path) -> Image:
    digest = (directory / "digest").read_text().strip()
    if not _HEX.fullmatch(digest):
        raise RuntimeError(f"cfs-store printed no digest: {digest!r}")
    return Image(directory / "image.cfs", digest)
