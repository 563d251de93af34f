# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Collecting: what no root needs is moved aside into gc/ of the store, and removed after a grace.

The order is what makes it safe to be ended anywhere. Before anything goes, what lies aside and is
needed again comes back. The name of an image goes before the image, and that before its contents;
on the way back it is the other way round. So an image that has its name has all of its contents.
After the move the roots are looked at again: what was mounted meanwhile gets its contents back.

    gc/20261128T070312Z/ab/cd…      objects
    gc/20261128T070312Z/images/…    links, as they were; and streams/…
"""

from __future__ import annotations

import _cfshost
import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os.path import lexists
from stat import S_ISLNK, S_ISREG

from pyinit.host.failure import system_failure
from pyinit.host.store.beneath import Directory
from pyinit.host.store.layout import Store
from pyinit.host.store.lock import repository_above
from pyinit.host.store.roots import ASIDE, START, Needed, digest_of_hex, is_image
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest

DAY = 24 * 60 * 60
_FAN_OUT = re.compile(r"[0-9a-f]{2}")
_STAMP = "%Y%m%dT%H%M%SZ"
_KINDS = ("images", "streams")

# Gives a new Needed: each call looks at all roots again. It is given the one before.
Look = Callable[[Needed | None], Needed]


class Report:
    """What was done, or would be. Objects and bytes of them."""

    def __init__(self) -> None:
        self.live = self.links = self.back = 0
        self.moved = self.removed = self.waiting = 0
        self.moved_bytes = self.removed_bytes = self.waiting_bytes = 0
        self.images: list[str] = []
        self.passed_over: list[str] = []


def check(store: Store) -> None:
    """UsageError or Refused: nothing can be collected in a store of this kind."""
    if store.is_ostree:
        raise Refused("store", str(store.path), "an ostree repository", "ostree prune")
    if repository_above(store):
        found = "the objects alone of a repository, without the names that need them"
        raise Refused("store", str(store.path), found, str(store.path.parent))


def collect(store: Store, look: Look, *, grace: int, dry_run: bool) -> Report:
    """Under the exclusive lock. `grace`: seconds that things stay aside.

    Refused, or another CfsError: a root could not be read, and nothing was changed.
    """
    check(store)
    if not dry_run:
        store.require_writable()
    report = Report()
    try:
        with Directory(store.path) as top:
            _collect(_Collector(store, top, report, dry_run), look, grace)
    except OSError as error:
        raise system_failure(error, step="store") from None
    return report


def sure(needed: Needed) -> Needed:
    """The same. CfsError: one of the roots could not be read."""
    if needed.unread:
        raise needed.unread[0]
    return needed


def _collect(collector: _Collector, look: Look, grace: int) -> None:
    needed = sure(look(None))
    collector.bring_back(needed)
    try:
        collector.move(needed)
        if not collector.dry_run and (collector.report.moved or collector.report.links):
            # Who mounted an image after the first look has its contents again at once.
            needed = sure(look(needed))
            collector.bring_back(needed)
    except CfsError:
        collector.bring_back(None)
        raise
    collector.remove(needed, grace)


class _Collector:
    def __init__(self, store: Store, top: Directory, report: Report, dry_run: bool) -> None:
        self.store = store
        self.top = top
        self.report = report
        self.dry_run = dry_run

    def move(self, needed: Needed) -> None:
        """Everything that is not needed: links, then images, then the rest."""
        aside: _Aside | None = None if self.dry_run else _Aside(self.top)
        try:
            for kind in _KINDS if self.store.images is not None else ():
                self._move_links(kind, needed, aside)
            if aside is not None:
                aside.settle(self.top)
            with _objects(self.store, self.top) as objects:
                for images in (True, False):
                    for directory in self._fans(objects, report=images):
                        with directory:
                            self._move_objects(directory, needed, aside, images=images)
        finally:
            if aside is not None:
                aside.close()

    def _move_links(self, kind: str, needed: Needed, aside: _Aside | None) -> None:
        try:
            directory = self.top.open(kind)
        except FileNotFoundError:
            return
        with directory:
            for name in directory.names():
                if name == "refs" or name.startswith(".") or f"{kind}/{name}" in needed.links:
                    continue
                status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                own = S_ISREG(status.st_mode) and kind == "images" and digest_of_hex(name)
                if not S_ISLNK(status.st_mode) and not own:
                    self.report.passed_over.append(os.path.join(directory.path, name))
                    continue
                self.report.links += 1
                if kind == "images":
                    self.report.images.append(name)
                if own:
                    self.report.moved += 1
                    self.report.moved_bytes += status.st_size
                if aside is not None:
                    aside.take(directory, name, kind)

    def _move_objects(
        self, directory: Directory, needed: Needed, aside: _Aside | None, *, images: bool
    ) -> None:
        prefix = os.path.basename(directory.path)
        unused, strange, live = _cfshost.scan(directory.fd, prefix, needed.live)
        if images:
            self.report.live += live
            self.report.passed_over += [os.path.join(directory.path, name) for name in strange]
        for name, size, image in unused:
            if image != images:
                continue
            self.report.moved += 1
            self.report.moved_bytes += size
            if image and self.store.images is None:
                self.report.images.append(prefix + name)
            if aside is not None:
                aside.take(directory, name, prefix)

    def _fans(self, objects: Directory, *, report: bool) -> Iterator[Directory]:
        for name in objects.names():
            if not _FAN_OUT.fullmatch(name):
                continue
            try:
                yield objects.open(name)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ENOTDIR, errno.ELOOP):
                    raise
                if report:
                    self.report.passed_over.append(os.path.join(objects.path, name))

    def bring_back(self, needed: Needed | None) -> None:
        """What lies aside and is needed (None: all of it): the contents, then images, names last,
        whenever each was moved."""
        for phase in ("contents", "images", "names"):
            for run in self._runs():
                with run:
                    for kind in run.names():
                        if kind in _KINDS if phase == "names" else _FAN_OUT.fullmatch(kind):
                            self._bring_back(run, kind, needed, images=phase == "images")

    def _bring_back(
        self, run: Directory, kind: str, needed: Needed | None, *, images: bool
    ) -> None:
        with run.open(kind) as directory:
            for name in directory.names():
                if not self._is_wanted(kind, name, needed):
                    continue
                if kind not in _KINDS and _begins_as_image(directory, name) is not images:
                    continue
                self.report.back += kind not in _KINDS
                if not self.dry_run:
                    self._put(directory, kind, name)

    def _is_wanted(self, kind: str, name: str, needed: Needed | None) -> bool:
        """Is it needed in its place, and not there?"""
        if kind in _KINDS:
            place = self.store.path / kind / name
            return (needed is None or f"{kind}/{name}" in needed.links) and not lexists(place)
        digest = digest_of_hex(kind + name)
        if digest is None or (needed is not None and digest.value not in needed.live):
            return False
        return not lexists(self.store.object_path(digest))

    def _put(self, directory: Directory, kind: str, name: str) -> None:
        if kind in _KINDS:
            with self.top.make(kind) as target:
                os.rename(name, name, src_dir_fd=directory.fd, dst_dir_fd=target.fd)
            return
        with _objects(self.store, self.top) as objects, objects.make(kind) as target:
            os.rename(name, name, src_dir_fd=directory.fd, dst_dir_fd=target.fd)

    def remove(self, needed: Needed, grace: int) -> None:
        """What has lain aside for so long. Strange files stay, and so does what is needed."""
        now = time.time()
        for run in self._runs():
            with run:
                moved = _time_of(os.path.basename(run.path))
                expired = not grace or (moved is not None and now - moved >= grace)
                for kind in run.names():
                    if kind in _KINDS or _FAN_OUT.fullmatch(kind):
                        self._remove(run, kind, needed, expired)
                    else:
                        self.report.passed_over.append(os.path.join(run.path, kind))
            if expired and not self.dry_run:
                with self.top.open(ASIDE) as aside, suppress(OSError):
                    os.rmdir(os.path.basename(run.path), dir_fd=aside.fd)
        if not self.dry_run:
            with suppress(OSError):
                os.rmdir(ASIDE, dir_fd=self.top.fd)

    def _remove(self, run: Directory, kind: str, needed: Needed, expired: bool) -> None:
        with run.open(kind) as directory:
            for name in directory.names():
                status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                known = digest_of_hex(name if kind in _KINDS else kind + name) is not None
                is_file = S_ISREG(status.st_mode) and known
                if not is_file and not (S_ISLNK(status.st_mode) and kind in _KINDS):
                    self.report.passed_over.append(os.path.join(directory.path, name))
                elif self._is_wanted(kind, name, needed):
                    continue
                elif expired:
                    self.report.removed += is_file
                    self.report.removed_bytes += status.st_size if is_file else 0
                    if not self.dry_run:
                        os.unlink(name, dir_fd=directory.fd)
                else:
                    self.report.waiting += is_file
                    self.report.waiting_bytes += status.st_size if is_file else 0
        if expired and not self.dry_run:
            with suppress(OSError):
                os.rmdir(kind, dir_fd=run.fd)

    def _runs(self) -> Iterator[Directory]:
        """The directories in gc/, the oldest first. One of another name is none of ours."""
        try:
            aside = self.top.open(ASIDE)
        except FileNotFoundError:
            return
        with aside:
            for name in aside.names():
                if _time_of(name) is not None:
                    yield aside.open(name)
                elif not self.dry_run:
                    self.report.passed_over.append(os.path.join(aside.path, name))


class _Aside:
    """gc/<time of this run>, made when there is something for it."""

    def __init__(self, top: Directory) -> None:
        self.top = top
        self.stamp = datetime.now(UTC).strftime(_STAMP)
        self._run: Directory | None = None
        self._kinds: dict[str, Directory] = {}

    def take(self, directory: Directory, name: str, kind: str) -> None:
        """Moves one thing there; it stays what it is."""
        if self._run is None:
            with self.top.make(ASIDE) as aside:
                self._run = aside.make(self.stamp)
        if kind not in self._kinds:
            self._kinds[kind] = self._run.make(kind)
        os.rename(name, name, src_dir_fd=directory.fd, dst_dir_fd=self._kinds[kind].fd)

    def settle(self, top: Directory) -> None:
        """Makes it durable that the names are gone, before their contents go."""
        for kind in set(self._kinds) & set(_KINDS):
            with top.open(kind) as directory:
                os.fsync(self._kinds[kind].fd)
                os.fsync(directory.fd)

    def close(self) -> None:
        """Of descriptors alone."""
        for directory in [*self._kinds.values(), self._run]:
            if directory is not None:
                os.close(directory.fd)


@contextmanager
def _objects(store: Store, top: Directory) -> Iterator[Directory]:
    with Directory(store.path) if store.images is None else top.open("objects") as objects:
        yield objects


def _begins_as_image(directory: Directory, name: str) -> bool | None:
    """None: it is no regular file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    if not S_ISREG(status.st_mode):
        return None
    fd = os.open(name, flags, dir_fd=directory.fd)
    try:
        return is_image(os.pread(fd, START, 0))
    finally:
        os.close(fd)


def _time_of(name: str) -> float | None:
    try:
        return datetime.strptime(name, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def move_image(store: Store, top: Directory, digest: Digest) -> None:
    """One image to gc/: of a repository its link, which makes it one; elsewhere the object."""
    aside = _Aside(top)
    try:
        if store.images is not None:
            with top.open("images") as images:
                aside.take(images, digest.hex, "images")
            aside.settle(top)
        else:
            with _objects(store, top) as objects, objects.open(digest.hex[:2]) as directory:
                aside.take(directory, digest.hex[2:], digest.hex[:2])
    finally:
        aside.close()
