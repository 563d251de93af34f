# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Adding to a store: each file under its digest, whole and durable before it has that name.

What is read is hashed and copied in one go, on all cores, into files that have no name yet: a kill
leaves nothing of them. A batch of them is brought to the disk at once, while the next one is read.
When all has been read, and nothing was wrong, all get their names.
"""

from __future__ import annotations

import _cfshost
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pyinit.host.atomic import has_procfs, reopen, sync_directory
from pyinit.host.failure import system_failure
from pyinit.host.store import fsverity
from pyinit.host.store.check import cores
from pyinit.host.store.descriptors import descriptors
from pyinit.host.store.image import Image, missing
from pyinit.host.store.jobs import Job
from pyinit.host.store.layout import Store
from pyinit.host.store.naming import Copy, Naming, close
from pyinit.host.store.threads import Threads
from pyinit.initrd.report.errors import Refused, SystemFailure, UsageError, os_error, printable
from pyinit.initrd.root.digest import ALGORITHMS, Digest

# Sealing waits for the disk: the kernel writes each file before it enables fs-verity.
_THREADS = 8
# More than these are not synced one by one.
_SINGLE = 16
_SHOWN = 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
AT_FDCWD = -100

Progress = Callable[[int, int], object]


class Adder:
    """Adds files to one store. `verity`: auto, require or off. `progress(objects, bytes)`.

    `unsealed` says why auto left something without fs-verity. finish() makes the names durable.
    """

    def __init__(
        self, store: Store, verity: str = "auto", progress: Progress = lambda _, __: None
    ) -> None:
        self.store = store
        self.verity = verity
        self.progress = progress
        self.unsealed = ""
        self._directories: set[Path] = set()  # with names that are not durable yet
        self._fans: set[str] = set()  # the same, by their names among objects
        # In the directory of objects, once: what comes later is seen when a name is given. With
        # temporary names it may have millions.
        self._there: set[str] | None = None
        self._done = (0, 0)
        if self.store.is_ostree:
            raise UsageError("usage", str(self.store.path), "an ostree repository: use ostree")
        self.store.require_writable()
        if self.store.metadata is not None and self.store.metadata.sealed:
            # Everything that opens it takes for granted that each object is sealed.
            if self.verity == "off":
                found = "a repository whose objects all have fs-verity (meta.json is sealed)"
                raise UsageError("usage", "--verity off", found)
            self.verity = "require"

    def add(self, jobs: Sequence[Job]) -> list[Digest]:
        """Adds files; their digests, in order. Refused: one is not a regular file, or not what was
        expected, or another content is there already under its name."""
        for job in jobs:
            if self.store.algorithm not in (None, job.algorithm):
                allowed = ALGORITHMS[self.store.algorithm or 0]
                raise Refused(
                    "store", str(job.path), ALGORITHMS[job.algorithm], f"{allowed} (meta.json)"
                )
        known = [job.expected for job in jobs]
        there = {
            index
            for index, digest in enumerate(known)
            if digest is not None and os.path.lexists(self.store.object_path(digest))
        }
        digests: dict[int, Digest] = {}
        with self._objects() as directory:
            rest = [index for index in range(len(jobs)) if index not in there]
            # One is made while the last one is brought to the disk.
            with descriptors(2) as room, self.naming(directory, room.open) as naming:
                for start in range(0, len(rest), room.batch):
                    batch = rest[start : start + room.batch]
                    copies = self._copy(directory, [jobs[index] for index in batch])
                    digests.update(zip(batch, [copy.digest for copy in copies], strict=True))
                    naming.put(copies)
                naming.settle()
                again = [jobs[index] for index in sorted(there)]
                digests.update(zip(sorted(there), self._compare(again), strict=True))
                self.check_present(directory, [digests[index] for index in sorted(there)])
                naming.finish()
        return [digests[index] for index in range(len(jobs))]

    @contextmanager
    def _objects(self) -> Iterator[int]:
        """The directory of objects, open."""
        try:
            directory = os.open(self.store.objects, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield directory
            finally:
                os.close(directory)
        except OSError as error:
            raise system_failure(error, str(self.store.objects), "store") from None

    def link_image(self, digest: Digest, name: str | None = None) -> None:
        """images/<hex>, in a repository, and a name for it in images/refs/cfs/, which keeps it from
        the collectors; elsewhere an image is an object like any."""
        images = self.store.images
        if images is None:
            return
        object_path = os.path.join("..", "objects", digest.hex[:2], digest.hex[2:])
        self._link(images / digest.hex, object_path)
        self._link(images / "refs" / "cfs" / (name or digest.hex), f"../../{digest.hex}")

    def _link(self, link: Path, target: str) -> None:
        directory = link.parent
        try:
            while not directory.is_dir():  # of three at most, each is durable in the one above
                directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                link.symlink_to(target)
            found = os.readlink(link) if link.is_symlink() else "not a link"
        except OSError as error:
            raise system_failure(error, str(link), "store") from None
        if found != target:
            raise Refused("store", str(link), found, target)
        while directory != self.store.path:
            self._directories.add(directory)
            directory = directory.parent
        self._directories.add(directory)

    def finish(self) -> None:
        """Makes the new names durable. OSError: the file system does not."""
        if len(self._directories) + len(self._fans) > _SINGLE:
            directory = os.open(self.store.objects, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _cfshost.sync(directory)
            finally:
                os.close(directory)
        else:
            objects = self.store.objects
            fans = {objects, *(objects / name for name in self._fans)} if self._fans else set()
            for path in sorted(self._directories | fans):
                sync_directory(path)
        self._directories.clear()
        self._fans.clear()

    @contextmanager
    def naming(self, directory: int, most: int) -> Iterator[Naming]:
        """What takes copies, and gives them their names in the end. `most`: that stay open."""
        with ExitStack() as stack:
            beside = Threads(1, self.store.path)
            taking = Naming(self, directory, beside, most)
            stack.callback(taking.drop)  # when that thread has ended
            stack.enter_context(beside)
            yield taking

    def _copy(self, directory: int, jobs: Sequence[Job]) -> list[Copy]:
        files = [(os.fsencode(job.path), job.algorithm) for job in jobs]
        prefix = os.urandom(8).hex()
        objects, size = self._done
        found = _cfshost.copy(directory, files, cores(), True, not has_procfs(), prefix, self._more)
        copies = [
            Copy(one[3], one[4], os.fspath(job.path), job.algorithm, one[5])
            for job, one in zip(jobs, found, strict=True)
            if one[3] >= 0
        ]
        try:
            self._look_for_faults(jobs, found)
            self._done = objects + len(copies), size + sum(one[6] for one in found)
            self.progress(*self._done)
        except BaseException:
            close(directory, copies)
            raise
        return copies

    def _more(self, objects: int, size: int) -> None:
        self.progress(self._done[0] + objects, self._done[1] + size)

    def _look_for_faults(self, jobs: Sequence[Job], found: list[_cfshost.Copied]) -> None:
        """The first one: after it the rest has not been copied."""
        whole = []
        for job, (number, ours, regular, _, _, raw, _) in zip(jobs, found, strict=True):
            if not regular:
                raise Refused("store", str(job.path), "not a regular file")
            if number not in (0, errno.ECANCELED):
                error = OSError(number, os.strerror(number))
                raise self._fault(error, job, ours=ours)
            if raw and not number:
                whole.append((job, Digest(job.algorithm, raw)))
        for job, digest in whole:
            if job.expected not in (None, digest):
                raise Refused("measure", str(job.path), str(digest), str(job.expected))

    def _fault(self, error: OSError, job: Job, *, ours: bool) -> SystemFailure:
        """Both sides are named, and the one at fault first."""
        if not ours:
            said = f"{os_error(error)}, to be added to {self.store.path}"
            return SystemFailure("store", str(job.path), said)
        known = job.expected
        place = self.store.objects if known is None else self.store.object_path(known)
        return SystemFailure("store", str(place), f"{os_error(error)}, for {job.path}")

    def name_one(self, directory: int, copy: Copy) -> None:
        """Brings a copy to the disk, and gives it its name. Refused: as of add()."""
        with self.naming(directory, 1) as naming:
            naming.put([copy])
            naming.finish()

    def prepare(self, directory: int, copies: list[Copy]) -> tuple[list[Copy], list[Digest]]:
        """Brings all to the disk whose contents are not there. Returns these, and those that are,
        which it closes; after a fault all."""
        try:
            new: list[Copy] = []
            there: list[Copy] = []
            if self._there is None:
                self._there = set(os.listdir(directory))
            fans = self._there
            objects = os.fspath(self.store.objects)
            for copy in copies:
                name = copy.name
                known = name[:2] in fans and os.path.lexists(f"{objects}/{name}")
                (there if known else new).append(copy)
            if self.verity != "off":
                with Threads(_THREADS, self.store.path) as pool:
                    pool.each(lambda copy: self._seal_copy(directory, copy), new)
            if len(new) > _SINGLE:
                _cfshost.sync(directory)
            else:
                for copy in new:
                    with self._fault_of(copy):
                        os.fsync(copy.fd)
        except BaseException:
            close(directory, copies)
            raise
        digests = [copy.digest for copy in there]
        close(directory, there)
        return new, digests

    def _seal_copy(self, directory: int, copy: Copy) -> None:
        with self._fault_of(copy):
            named, digest = copy.temporary, copy.digest
            reader = os.open(named, _READ, dir_fd=directory) if named else reopen(copy.fd)
            # fs-verity needs a file that nobody has open for writing
            writer, copy.fd = copy.fd, reader
            os.close(writer)
            found = self._enable(copy.fd, copy.source, digest)
        if found != digest:
            raise Refused("measure", copy.source, str(found), str(digest))

    @contextmanager
    def _fault_of(self, copy: Copy) -> Iterator[None]:
        with _fault_of(self.store.objects / copy.name, f"for {copy.source}"):
            yield

    def make_fan(self, directory: int, name: str) -> None:
        """A directory of objects, where it is not there yet; finish() makes it durable."""
        if name in self._fans:
            return
        try:
            os.mkdir(name, dir_fd=directory)
        except FileExistsError:
            if not (self.store.objects / name).is_dir():
                raise
        self._fans.add(name)

    def _compare(self, jobs: Sequence[Job]) -> list[Digest]:
        """The digests of files whose objects are there: each is what its name says."""
        files = [(os.fsencode(job.path), job.algorithm) for job in jobs]
        digests = []
        found = _cfshost.measure(AT_FDCWD, files, cores(), True, self._more) if files else []
        for job, (number, regular, _, raw, _) in zip(jobs, found, strict=True):
            if not regular:
                raise Refused("store", str(job.path), "not a regular file")
            if number:
                raise self._fault(OSError(number, os.strerror(number)), job, ours=False)
            digest = Digest(job.algorithm, raw)
            if digest != job.expected:
                raise Refused("measure", str(job.path), str(digest), str(job.expected))
            digests.append(digest)
        return digests

    def check_present(self, directory: int, digests: list[Digest]) -> None:
        """Never replaced: another process may have it mounted. Never trusted by its name either."""
        if not digests:
            return
        files = [
            (f"{digest.hex[:2]}/{digest.hex[2:]}".encode(), digest.algorithm) for digest in digests
        ]
        found = _cfshost.measure(directory, files, cores(), False, lambda _, __: None)
        for digest, (number, regular, _, raw, _) in zip(digests, found, strict=True):
            target = self.store.object_path(digest)
            if not regular:
                raise Refused("store", str(target), "not a regular file", "an object")
            if number:
                raise system_failure(OSError(number, os.strerror(number)), str(target), "store")
            # Sealing wrong content would make it harder to remove, not better.
            if Digest(digest.algorithm, raw) != digest:
                measured = Digest(digest.algorithm, raw)
                raise Refused("measure", str(target), str(measured), str(digest))
        if self.verity != "off":
            with Threads(_THREADS, self.store.path) as pool:
                pool.each(self._seal_present, digests)

    def _seal_present(self, digest: Digest) -> None:
        target = self.store.object_path(digest)
        with _fault_of(target, "to be sealed"):
            fd = os.open(target, _READ)
            try:
                found = self._enable(fd, str(target), digest)
            finally:
                os.close(fd)
        if found != digest:
            raise Refused("measure", str(target), str(found), str(digest))

    def _enable(self, fd: int, named: str, digest: Digest) -> Digest:
        """What the kernel measures. Refused, under the name `named`: not sealed but required."""
        if self.unsealed:
            return digest
        try:
            return fsverity.seal(fd, digest.algorithm)[0]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = fsverity.reason(error, self.store.objects)
            if self.verity == "require" or error.errno not in fsverity.UNSUPPORTED:
                found = f"not sealed: {reason}"
                raise Refused("store", named, found, "fs-verity, or --verity off") from None
            self.unsealed = reason
            return digest


@contextmanager
def _fault_of(path: Path, what: str) -> Iterator[None]:
    """An OSError inside is the failure of `path`; `what` names the other side."""
    try:
        yield
    except OSError as error:
        raise SystemFailure("store", str(path), f"{os_error(error)}, {what}") from None


def check_images(
    images: Sequence[Image], store: Store, *, allow_missing: bool, tell: Callable[[str], object]
) -> None:
    """Tells which objects they need and the store does not have. Refused: some, without
    `allow_missing`."""
    for image in images:
        lines, absent, total = missing([image], store.objects)
        names = os.fsdecode(lines).split("\n")[:absent]
        for name in names[:_SHOWN]:
            tell(f"{image.path}: missing: {name}")
        if absent > _SHOWN:
            tell(f"{image.path}: missing: {absent - _SHOWN} more, see `cfs-store missing`")
        if absent and not allow_missing:
            found = f"{absent} of the {total} objects that it needs are not in {store.path}"
            raise Refused("store", str(image.path), found, "all, or --allow-missing")


def add_images(
    adder: Adder, images: Sequence[Image], algorithm: int, name: str | None = None
) -> list[Digest]:
    """Adds images, as they were read. Each gets its name in the repository last, when all that it
    needs is on the disk."""
    jobs = [Job(Path(image.path), algorithm, image.digest(algorithm)) for image in images]
    digests = adder.add(jobs)
    adder.finish()
    for digest in digests:
        adder.link_image(digest, name)
    return digests


def check_name(name: str) -> str:
    """A name for --name. UsageError: none that a file in a directory of others can have."""
    if not name or name.startswith(".") or "/" in name or printable(name) != name:
        raise UsageError("usage", f"--name {name}", "no name", "letters and digits, no slash")
    return name
