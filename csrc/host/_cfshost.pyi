# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The engine of the host's tools, in C++ (csrc/host). It is in no initrd."""

from collections.abc import Callable, Sequence

class Malformed(ValueError):
    """An image that breaks a rule: (the rule, at which byte)."""

class Image:
    """A composefs image in memory. Malformed: its headers are not those of one."""

    def __init__(self, data: bytes) -> None: ...
    @property
    def version(self) -> int:
        """The format that composefs gave it, as its header says."""

    def dump(self, write: Callable[[bytes], object]) -> None:
        """Hands the lines of composefs-dump(5) to `write`, in pieces. Malformed may come late."""

    def list(self, path: bytes | str, write: Callable[[bytes], object]) -> bool:
        """A line for each file at and below `path` ("" for all). False: there is none."""

def objects(images: Sequence[Image]) -> tuple[bytes, int]:
    """Where all content lies below the directory of objects, a line each, sorted; how many."""

def missing(images: Sequence[Image], directory: int) -> tuple[bytes, int, int]:
    """Those of them that are no regular files there, how many, and how many there should be."""
