# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A repository as composefs-rs has it, and trees for its images, made on the host.

meta.json, objects/ab/..., images/<digest> -> ../objects/ab/...
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

# Counted up when this file makes something else of the same: it is part of what is kept.
REPOSITORY_FORMAT = 1

_MTIME = 1_700_000_000


def make_repository(path: Path) -> Path:
    """An empty one; `path` may be there, with its objects."""
    for name in ("objects", "images"):
        (path / name).mkdir(parents=True, exist_ok=True)
    features: dict[str, list[str]] = {"compatible": [], "ro-compatible": [], "incompatible": []}
    meta = {"version": 1, "algorithm": "fsverity-sha256-12", "features": features}
    (path / "meta.json").write_text(json.dumps(meta))
    return path


def add_image(repository: Path, image: Path, digest: str) -> None:
    """A copy of `image` under `digest`, whether that fits or not."""
    place = repository / object_path(digest)
    place.parent.mkdir(exist_ok=True)
    shutil.copyfile(image, place)
    (repository / "images" / digest).symlink_to(f"../{object_path(digest)}")


def fill_tree(tree: Path, directories: Iterable[str], files: Mapping[str, bytes]) -> None:
    """Makes all of them in a new `tree`, parents too."""
    for name in directories:
        (tree / name).mkdir(parents=True)
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def date_tree(tree: Path) -> None:
    """The same time for everything, so that the same tree gives the same image. Comes last."""
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (_MTIME, _MTIME), follow_symlinks=False)


def object_path(digest: str) -> str:
    """Where a repository keeps the object `digest`."""
    return f"objects/{digest[:2]}/{digest[2:]}"
