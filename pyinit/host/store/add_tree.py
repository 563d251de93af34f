# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Adding a directory, or layers, and the image to a store in one pass: each file is hashed and
copied while it is read. What is named in the store, and when, is as for files that are added one by
one."""

from __future__ import annotations

import _cfs
import _cfshost
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyinit.host.atomic import has_procfs, open_new, procfs
from pyinit.host.store.add import Adder, Progress
from pyinit.host.store.check import cores
from pyinit.host.store.descriptors import descriptors
from pyinit.host.store.layout import Store
from pyinit.host.store.naming import Copy, close
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest


class _Receiver(NamedTuple):
    """`take` gets copies that the engine makes in `directory`, `limit` of them at most."""

    directory: int
    prefix: str
    limit: int
    take: Callable[[list[_cfshost.Stored]], object]


class TreeAdder(Adder):
    """An Adder of directories, of layers, and of images in memory. `algorithm`: of all digests."""

    def __init__(
        self,
        store: Store,
        verity: str = "auto",
        progress: Progress = lambda _, __: None,
        *,
        algorithm: int = _cfs.SHA256,
    ) -> None:
        super().__init__(store, verity, progress)
        self.algorithm = algorithm

    def add_tree(
        self, fd: int, source: Path, formats: Sequence[tuple[int, int]], how: _cfshost.Adjustment
    ) -> list[bytes]:
        """Adds the contents of a directory, as its image needs them, and makes that image in each
        format, which is not added. Each file is read once. Of one that changes meanwhile nothing is
        left; other objects may be there then, and nothing that needs them.

        _cfshost.Unreadable, Unfit. Refused: the store is in the directory.
        """
        if Path(os.path.realpath(self.store.objects)).is_relative_to(os.path.realpath(source)):
            found = f"the store {self.store.path} is in it"
            raise Refused("source", str(source), found, "a store elsewhere")
        with self._receiver(os.path.join(source, "")) as to:
            return _cfshost.store_tree(
                fd, to.directory, cores(), formats, how, not has_procfs(), to.prefix, to.limit,
                self.progress, to.take,
            )  # fmt: skip

    def add_layers(
        self,
        layers: list[_cfshost.Part],
        formats: Sequence[tuple[int, int]],
        how: _cfshost.Adjustment,
    ) -> list[bytes]:
        """The same of tar files, the lowest layer first. _cfshost.BadLayer, OtherDigest."""
        with self._receiver("", len(layers)) as to:
            return _cfshost.store_layers(
                layers, to.directory, cores(), formats, how, not has_procfs(), to.prefix,
                to.limit, self.progress, to.take,
            )  # fmt: skip

    @contextmanager
    def _receiver(self, source: str, held: int = 0) -> Iterator[_Receiver]:
        """What takes the copies of the engine. All are named in the end. `source`: before their
        paths, in messages. `held`: descriptors that the caller has open."""
        # The engine makes one, and gave another to this thread, which waits until the one before it
        # is on the disk.
        with (
            self._objects() as directory,
            descriptors(3, held) as room,
            self.naming(directory, room.open) as naming,
        ):

            def take(stored: list[_cfshost.Stored]) -> None:
                naming.put(
                    [
                        Copy(copy, name, source + os.fsdecode(path)[1:], self.algorithm, raw)
                        for path, copy, name, raw, _ in stored
                    ]
                )

            yield _Receiver(directory, os.urandom(8).hex(), room.batch, take)
            naming.finish()

    def add_image(self, made: bytes, source: Path, name: str | None = None) -> Digest:
        """Adds an image from memory, and names it, when all that was added before is on the disk.
        It is read back before. Refused: what was read is something else."""
        digest = Digest(self.algorithm, _cfshost.verity_digest(made, self.algorithm))
        target = self.store.object_path(digest)
        self.finish()
        with self._objects() as directory:
            fd, temporary = open_new(directory, self.store.objects / digest.hex, 0o644)
            place = "" if temporary is None else temporary.name
            copies = [Copy(fd, place, os.fspath(source), self.algorithm, digest.value)]
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(made)
                with open(procfs(fd) if temporary is None else temporary, "rb") as back:
                    _compare_image(back.read(), made, target)
            except BaseException:
                close(directory, copies)
                raise
            self.name_one(directory, copies[0])
        self.finish()
        self.link_image(digest, name)
        return digest


def _compare_image(read: bytes, made: bytes, path: Path) -> None:
    if read != made:
        raise Refused("erofs", str(path), "not what was written", "a disk that works")
    _cfshost.Image(read).dump(lambda _: None)
