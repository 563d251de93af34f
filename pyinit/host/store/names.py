# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The images of a store, as people see them: listed, and taken out of it."""

from __future__ import annotations

import _cfshost
import os
import re
from collections.abc import Callable
from pathlib import Path

from pyinit.host.failure import system_failure
from pyinit.host.store import gc, image
from pyinit.host.store.beneath import Directory
from pyinit.host.store.layout import Store
from pyinit.host.store.roots import Needed, digest_of_hex
from pyinit.initrd.report.errors import CfsError, Refused, UsageError
from pyinit.initrd.root.digest import Digest

_FAN_OUT = re.compile(r"[0-9a-f]{2}")


class Listed:
    """An image. `size`: its bytes, without its objects. `fault`: why it cannot be read."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.size = self.objects = self.missing = 0
        self.fault = ""
        self.names: list[str] = []
        self.mounts: list[str] = []
        self.ukis: list[str] = []
        self.records: list[str] = []

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return vars(self)

    @property
    def state(self) -> str:
        """In words: whole or not."""
        if self.fault:
            return self.fault
        if self.missing:
            return f"{self.missing} of {self.objects} objects missing"
        return "whole"


def listed(store: Store, needed: Needed) -> list[Listed]:
    """Every image that is in the store, in the order of digests. SystemFailure."""
    try:
        found = _digests(store) | {digest for digest in needed.images if needed.has_image(digest)}
    except OSError as error:
        raise system_failure(error, step="store") from None
    return [_listed(store, needed, digest) for digest in sorted(found, key=str)]


def _digests(store: Store) -> set[Digest]:
    if store.images is not None:
        names = os.listdir(store.images) if store.images.is_dir() else []
    else:
        names = list(_image_objects(store))
    return {digest for name in names if (digest := digest_of_hex(name)) is not None}


def _image_objects(store: Store) -> list[str]:
    found = []
    empty = _cfshost.Live()
    with Directory(store.objects) as objects:
        for prefix in objects.names():
            if _FAN_OUT.fullmatch(prefix):
                with objects.open(prefix) as directory:
                    names, _, _ = _cfshost.scan(directory.fd, prefix, empty)
                found += [prefix + name for name, _, is_image in names if is_image]
    return found


def _listed(store: Store, needed: Needed, digest: Digest) -> Listed:
    about = Listed(str(digest))
    kinds = {"name": about.names, "mount": about.mounts, "uki": about.ukis}
    for kind, why in needed.images.get(digest, []):
        kinds.get(kind, about.records).append(why)
    path = store.object_path(digest)
    if not path.exists() and store.images is not None:
        path = store.images / digest.hex
    held = needed.held(digest)
    try:
        read = image.read(path) if held is None else image.parse(held, path)
        about.size = len(read.data)
        _, about.missing, about.objects = image.missing([read], store.objects)
    except CfsError as error:
        about.fault = error.found
    return about


def remove(store: Store, what: str, look: Callable[[], Needed]) -> str:
    """Takes an image out of the store, by its digest, or one of its names below images/refs; in
    words, what was done. Under the exclusive lock. The image itself goes to gc/.

    Refused: something needs it, or it cannot be known whether something does.
    """
    gc.check(store)
    store.require_writable()
    try:
        digest = Digest.parse(what, "IMAGE")
    except UsageError:
        return _remove_name(store, what)
    try:
        return _remove_image(store, digest, look)
    except OSError as error:
        raise system_failure(error, step="store") from None


def _remove_name(store: Store, what: str) -> str:
    name = what.removeprefix("images/refs/").removeprefix("refs/")
    parts = name.split("/")
    where = store.path / "images/refs" / name
    if store.images is None or not all(part not in ("", ".", "..") for part in parts):
        raise UsageError("usage", what, "neither a digest nor the name of an image")
    try:
        with Directory(store.path) as top, top.open("images") as images:
            opened = [images.open("refs")]
            try:
                for part in parts[:-1]:
                    opened.append(opened[-1].open(part))
                if opened[-1].link(parts[-1]) is None:
                    raise UsageError("usage", what, "neither a digest nor the name of an image")
                os.unlink(parts[-1], dir_fd=opened[-1].fd)
                os.fsync(opened[-1].fd)
            finally:
                for directory in opened:
                    os.close(directory.fd)
    except OSError as error:
        raise system_failure(error, str(where), "store") from None
    return f"{where} is removed; the image stays until cfs-store gc finds nothing that needs it"


def _remove_image(store: Store, digest: Digest, look: Callable[[], Needed]) -> str:
    needed = gc.sure(look())
    if not needed.has_image(digest):
        raise Refused("store", str(store.object_path(digest)), "no such image in the store")
    refs = os.path.join(store.path, "images", "refs") + os.sep
    why = needed.images.get(digest, [])
    for kind, words in why:
        if kind != "name" or not words.startswith(refs):
            raise Refused("store", str(digest), f"needed by {words}", "an image that nothing needs")
    for _, words in why:
        _remove_name(store, Path(words).relative_to(refs).as_posix())
    with Directory(store.path) as top:
        gc.move_image(store, top, digest)
    return (
        f"{digest} is in {store.path / 'gc'}, and with it what it alone needs, after cfs-store gc"
    )
