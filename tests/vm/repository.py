# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A repository as composefs-rs has it, made on the host: what disks are filled with.

meta.json, objects/ab/..., images/<digest> -> ../objects/ab/...
"""

import json
import shutil
from pathlib import Path

# Counted up when this file makes something else of the same: it is part of what is kept.
REPOSITORY_FORMAT = 1


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


def object_path(digest: str) -> str:
    """Where a repository keeps the object `digest`."""
    return f"objects/{digest[:2]}/{digest[2:]}"
