# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A file tree as lines, by the same rule as `dumptree` in the guest (guest-tools/tree.c)."""

import os
import stat
from pathlib import Path


def listing(tree: Path) -> list[str]:
    """One line for each file below `tree` and for itself, sorted."""
    return sorted(_line(tree, path) for path in [tree, *tree.rglob("*")])


def _line(tree: Path, path: Path) -> str:
    name = os.fsencode(path)[len(os.fsencode(tree)) :]
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        content = path.read_bytes().hex()
    elif stat.S_ISLNK(status.st_mode):
        content = os.fsencode(path.readlink()).hex()
    else:
        content = "-"
    xattrs = "".join(
        f" {xattr}={os.getxattr(path, xattr, follow_symlinks=False).hex() or '-'}"
        for xattr in os.listxattr(path, follow_symlinks=False)
    )
    return (
        f"{name.hex() or '-'} {status.st_mode:o} {status.st_uid} {status.st_gid} "
        f"{int(status.st_mtime)} {content}{xattrs}"
    )
