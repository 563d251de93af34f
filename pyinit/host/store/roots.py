# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of a store is needed: the names that say so, and all that is reached from them.

A name that cannot be read might need anything, so each of those is kept as an error: who deletes
has to look at `Needed.unread` first. The names outside the store (UKIs, mounts, records) are the
caller's; here they are digests.
"""

from __future__ import annotations

import _cfs
import _cfshost
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from stat import S_ISDIR

from pyinit.host.failure import system_failure
from pyinit.host.store import fsverity, image, streams
from pyinit.host.store.beneath import Directory
from pyinit.host.store.layout import Store
from pyinit.host.store.threads import Threads
from pyinit.initrd.handover import named_images
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import image_list

_HEX = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?")
ASIDE = "gc"
"""The directory in a store with what was collected and waits for its end."""
_DEPTH = 64  # of directories of names
_EROFS = b"\xe2\xe1\xf5\xe0"
_SUPERBLOCK = 1024
START = _SUPERBLOCK + len(_EROFS)
"""Bytes that say what an object is."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def digest_of_hex(digits: str) -> Digest | None:
    """None: not 64 or 128 lower-case hex digits."""
    if not _HEX.fullmatch(digits):
        return None
    algorithm = _cfs.SHA256 if len(digits) == 64 else _cfs.SHA512
    return Digest(algorithm, bytes.fromhex(digits))


def is_image(start: bytes) -> bool:
    """Does a file begin as an image? `start`: START bytes of it."""
    return start[_SUPERBLOCK:] == _EROFS


class Needed:
    """All that is reached from the names given to it.

    `images`: the digest of each image, and why: (kind, words), of which a kind is name, mount, uki,
    record or asked. `links`: names in images/ and streams/ that are needed. `elsewhere`: images
    that lie in UKIs. `unread`: errors, of any of which the consequence is that nothing may be
    deleted.
    """

    def __init__(self, store: Store, known: Needed | None = None) -> None:
        """`known`: an earlier one, under the same lock. What it has read is not read again."""
        self.store = store
        self.live: _cfshost.Live = _cfshost.Live() if known is None else known.live
        self.images: dict[Digest, list[tuple[str, str]]] = {}
        self.links: set[str] = set() if known is None else known.links
        self.unread: list[CfsError] = []
        self.seen: set[Digest] = set() if known is None else known.seen
        self.elsewhere: dict[Digest, bytes] = {} if known is None else known.elsewhere
        self._listed: list[tuple[Digest, str]] = []  # by images that are kept, to be kept too
        aside = store.path / ASIDE
        try:
            self._runs = sorted(entry.path for entry in os.scandir(aside))
        except OSError:
            self._runs = []  # gc.py looks at it more closely

    def hold(self, digest: Digest, data: bytes) -> None:
        """An image that lies elsewhere, in a UKI: its objects are here."""
        self.elsewhere[digest] = data

    def held(self, digest: Digest) -> bytes | None:
        """The content of one that lies elsewhere, and not in the store; else None."""
        return None if self._place(digest) is not None else self.elsewhere.get(digest)

    def has_image(self, digest: Digest) -> bool:
        """Is there an image of that digest, as a link, an object, or held?"""
        return digest in self.elsewhere or self._place(digest) is not None

    def keep_image(self, digest: Digest, why: str, kind: str = "name") -> None:
        """An image that is there, and all of its objects; and the images that it lists for
        `cfs-mount --name`."""
        self._keep_image(digest, why, kind)
        while self._listed:
            self._keep_image(*self._listed.pop(), "record")

    def _keep_image(self, digest: Digest, why: str, kind: str) -> None:
        self.images.setdefault(digest, []).append((kind, why))
        self.links.add(f"images/{digest.hex}")
        if digest in self.seen:
            return
        try:
            data, found = self._read(digest, why)
            with Threads(1, self.store.path) as pool:
                # Both take as long. What a changed image names is kept too, and stops it anyway.
                hashed = pool.submit(lambda: _check(digest, data, found, self._shown(digest)))
                try:
                    parsed = _cfshost.Image(data)
                    self.live.add_image(parsed)
                finally:
                    hashed.result()
            self._look_for_lists(parsed, digest)
        except _cfshost.Malformed as error:
            rule, offset = error.args
            text = f"no composefs image: {rule} at byte {offset}"
            self.unread.append(Refused("erofs", self._shown(digest), f"{text}, and {why} names it"))
        except CfsError as error:
            self.unread.append(error)

    def _look_for_lists(self, parsed: _cfshost.Image, digest: Digest) -> None:
        """A list that is none names nothing: cfs-mount refuses it."""
        for name, inside, payload in parsed.files(named_images.DIRECTORY):
            where = f"{named_images.DIRECTORY}/{os.fsdecode(name)} of {digest}"
            held = digest_of_hex(payload.decode("latin-1").replace("/", ""))
            if not name.endswith(b".conf") or (payload and held is None):
                continue
            if held is not None and digest in self.elsewhere and self._place(held) is None:
                continue  # its objects may be in the UKI too
            text = inside if held is None else self._content(held, where)
            if len(text) > image_list.MAX:
                continue
            with suppress(Refused):
                listed, _, _ = image_list.parse(text, where)
                if self.has_image(listed):
                    self._listed.append((listed, where))

    def keep_stream(self, digest: Digest, why: str) -> None:
        """An object, and what it refers to, if it is an image or a split stream."""
        todo = [digest]
        while todo:
            found = todo.pop()
            if found in self.seen:
                continue
            try:
                todo += self._follow(found, why)
            except CfsError as error:
                self.unread.append(error)

    def keep_repository(self) -> None:
        """What the names in the repository itself need: images/refs, streams/refs, and the
        deployments of bootc beside it."""
        if self.store.images is None:
            return
        with Directory(self.store.path) as top:
            for name, path in self._names(top, "images"):
                digest = digest_of_hex(name)
                if digest is None:
                    self.unread.append(
                        Refused("store", path, f"leads to images/{name}", "to a digest")
                    )
                elif not self.has_image(digest):
                    self.unread.append(
                        Refused(
                            "store", path, f"leads to images/{name}, which is not there", "an image"
                        )
                    )
                else:
                    self.keep_image(digest, path)
            for name, path in self._names(top, "streams"):
                self.links.add(f"streams/{name}")
                try:
                    with top.open("streams") as directory:
                        digest = _object_of(directory, "streams", name)
                    self.keep_stream(digest, path)
                except (OSError, ValueError) as error:
                    self.unread.append(
                        Refused(
                            "store",
                            path,
                            f"leads to streams/{name}: {error}",
                            "a link to an object",
                        )
                    )

    def _names(self, top: Directory, kind: str) -> Iterator[tuple[str, str]]:
        """(the entry it leads to, the name's own path) of each name below <kind>/refs."""
        for directory, name in self._links(top, kind):
            path = os.path.join(directory.path, name)
            target = directory.link(name)
            where = os.path.relpath(directory.path, top.path)
            if target is None:
                self.unread.append(
                    Refused("store", path, "neither a link nor a directory", "a link")
                )
            elif os.path.isabs(target):
                self.unread.append(
                    Refused("store", path, f"an absolute link to '{target}'", f"../…/{kind}/NAME")
                )
            else:
                parts = posixpath.normpath(posixpath.join(where, target)).split("/")
                if len(parts) == 2 and parts[0] == kind and parts[1] not in ("refs", ".."):
                    yield parts[1], path
                else:
                    self.unread.append(
                        Refused("store", path, f"a link to '{target}'", f"../…/{kind}/NAME")
                    )

    def _links(self, top: Directory, kind: str) -> Iterator[tuple[Directory, str]]:
        try:
            with top.open(kind) as above, above.open("refs") as refs:
                yield from self._below(refs, 0)
        except FileNotFoundError:
            return
        except OSError as error:
            self.unread.append(system_failure(error, step="store"))

    def _below(self, directory: Directory, depth: int) -> Iterator[tuple[Directory, str]]:
        for name in directory.names():
            status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if not S_ISDIR(status.st_mode):
                yield directory, name
            elif depth == _DEPTH:
                self.unread.append(
                    Refused("store", directory.path, f"more than {_DEPTH} directories deep")
                )
            else:
                with directory.open(name) as below:
                    yield from self._below(below, depth + 1)

    def _follow(self, digest: Digest, why: str) -> list[Digest]:
        start = self._start(digest, why)
        if is_image(start):
            self.keep_image(digest, why)
            return []
        if not streams.is_stream(start[: streams.HEADER_SIZE]):
            self.seen.add(digest)
            self.live.add(digest.value, len(digest.value))
            return []
        data = self._content(digest, why)
        try:
            size, others, objects = streams.references(data)
        except ValueError as error:
            found = f"no split stream: {error}, and {why} names it"
            raise Refused("store", self._shown(digest), found) from None
        self.live.add(objects, size)
        self.live.add(others, size)
        self.links.update(self._stream_links.get(digest, ()))
        algorithm = _cfs.SHA256 if size == 32 else _cfs.SHA512
        return [
            Digest(algorithm, others[place : place + size]) for place in range(0, len(others), size)
        ]

    @cached_property
    def _stream_links(self) -> dict[Digest, list[str]]:
        """The entries of streams/, here and aside, by the object that each leads to. composefs-rs
        finds a stream that another one refers to by them alone."""
        found: dict[Digest, list[str]] = {}
        for place in (os.fspath(self.store.path), *self._runs):
            try:
                with Directory(place) as top, top.open("streams") as directory:
                    for name in directory.names():
                        # What leads to no object is for who moves it.
                        with suppress(ValueError):
                            digest = _object_of(directory, "streams", name)
                            found.setdefault(digest, []).append(f"streams/{name}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise system_failure(error, step="store") from None
        return found

    @contextmanager
    def _opened(self, digest: Digest, why: str) -> Iterator[tuple[int, Path]]:
        """An object, and where it is. Refused: not there; SystemFailure: it cannot be read."""
        path = self._place(digest)
        if path is None:
            raise Refused("store", self._shown(digest), f"not there, and {why} needs it")
        try:
            fd = os.open(path, _FLAGS)
            try:
                yield fd, path
            finally:
                os.close(fd)
        except OSError as error:
            raise system_failure(error, str(path), "store") from None

    def _start(self, digest: Digest, why: str) -> bytes:
        with self._opened(digest, why) as (fd, _):
            return os.pread(fd, START, 0)

    def _content(self, digest: Digest, why: str) -> bytes:
        """All of an object, which is what its name says."""
        data, found = self._read(digest, why)
        _check(digest, data, found, self._shown(digest))
        return data

    def _read(self, digest: Digest, why: str) -> tuple[bytes, Digest | None]:
        """All of an object, and what the kernel measures where it is sealed."""
        self.seen.add(digest)
        self.live.add(digest.value, len(digest.value))
        if digest in self.elsewhere:
            return self.elsewhere[digest], None
        with self._opened(digest, why) as (fd, path):
            return image.read_open(fd, path), fsverity.measured(fd)

    def _place(self, digest: Digest) -> Path | None:
        """The object, or the image that lies in images/ itself."""
        path = self.store.object_path(digest)
        if os.path.lexists(path):
            return path
        if self.store.images is not None:
            own = self.store.images / digest.hex
            if own.is_file() and not own.is_symlink():
                return own
        # What was collected and not yet removed comes back where it is needed again.
        for run in self._runs:
            for place in (
                Path(run, digest.hex[:2], digest.hex[2:]),
                Path(run, "images", digest.hex),
            ):
                if place.is_file() and not place.is_symlink():
                    return place
        return None

    def _shown(self, digest: Digest) -> str:
        return str(self.store.object_path(digest))


def _check(digest: Digest, data: bytes, found: Digest | None, path: str) -> None:
    """Refused: other content than the name says. A changed image would not name what it needs."""
    if found is None:
        found = Digest(digest.algorithm, _cfshost.verity_digest(data, digest.algorithm))
    if found != digest:
        raise Refused("measure", path, str(found), str(digest))


def _object_of(directory: Directory, kind: str, name: str) -> Digest:
    """What a link in <kind>/ leads to. OSError; ValueError: not to an object."""
    target = directory.link(name)
    parts = posixpath.normpath(posixpath.join(kind, target or "")).split("/")
    digest = digest_of_hex("".join(parts[1:])) if len(parts) == 3 else None
    if target is None or parts[0] != "objects" or len(parts[1]) != 2 or digest is None:
        raise ValueError("no link to an object")
    return digest
