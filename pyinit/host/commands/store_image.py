# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verb `image` of `cfs-store`: an image is made, and goes to a file, or to a store."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from pyinit.host.commands.command import say, warn
from pyinit.host.commands.progress import rates
from pyinit.host.commands.store_verbs import NAME, tell, warn_unsealed
from pyinit.initrd.report.errors import EXIT_OK, Refused, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from pyinit.host.store.add_tree import TreeAdder
    from pyinit.host.store.changes import Changes
    from pyinit.host.store.fights import Content
    from pyinit.host.store.image import Image
    from pyinit.host.store.layers import Part, Parts
    from pyinit.host.store.oci_text import Platform

Progress = Callable[[int, int], object]
_LAYOUT = ("oci-layout", "index.json", "blobs")  # what each container image in a layout has


def image(options: argparse.Namespace) -> int:
    """An image is made, and goes to a file, or to a store with all that it needs."""
    if options.object_store is not None:
        return _into_store(options)
    if options.digest_only == (options.output is not None):
        wanted = "one of -o, --object-store and --digest-only is needed"
        raise UsageError("usage", "image", wanted)
    for option in ("name", "create"):
        if getattr(options, option):
            raise UsageError("usage", f"--{option}", "no store", "--object-store DIR too")
    from pyinit.host.store import make_image

    job = _Job(options)
    with rates(NAME, "reading", quiet=options.quiet) as progress:
        made = job.made(progress)
    job.compare(made)
    digest = make_image.digest(made, job.algorithm)
    if options.digest_only:
        make_image.check(made)
    else:
        make_image.write(made, options.output)
    _warn(make_image.read(made, job.name), job.content)
    if options.digest_only or options.print_digest:
        say(digest)
    return EXIT_OK


def _into_store(options: argparse.Namespace) -> int:
    from pyinit.host.store import add

    if options.digest_only:
        raise UsageError("usage", "--digest-only", "it writes nothing", "no --object-store")
    if options.name is not None:
        add.check_name(options.name)
    job = _Job(options)
    with job.opened():
        return _added(options, job)


def _added(options: argparse.Namespace, job: _Job) -> int:
    from pyinit.host.store import metadata
    from pyinit.host.store.create import created
    from pyinit.host.store.layout import ALGORITHM_NAMES

    if job.is_text:  # before anything is made of the store
        job.made(lambda _, __: None)
    if not options.create:
        return _filled(options, job)
    algorithm, number = ALGORITHM_NAMES.get(options.hash), options.erofs_version
    image_format = metadata.FORMAT if number is None else number
    with created(options.object_store, algorithm, options.verity, image_format):
        return _filled(options, job)


def _filled(options: argparse.Namespace, job: _Job) -> int:
    from pathlib import Path

    from pyinit.host.store import add, labels, lock, make_image
    from pyinit.host.store.add_tree import TreeAdder
    from pyinit.host.store.layout import Store
    from pyinit.host.store.sweep import sweep

    store = Store(options.object_store)
    # Without --hash it is the store's.
    job.algorithm = store.choose_algorithm(options.hash)
    job.choose_formats(store.formats())
    job.check_peer()
    sweep(store, lock.place(store))
    with lock.shared(store, tell), rates(NAME, "adding", quiet=options.quiet) as progress:
        adder = TreeAdder(store, options.verity, progress, algorithm=job.algorithm)
        try:
            made, *others = job.added(adder)
            job.compare(made)
            parsed = make_image.read(made, job.name)
            if job.is_text:
                add.check_images([parsed], store, allow_missing=False, tell=tell)
            _warn(parsed, lambda _, name: labels.read(store.objects / name))
            digest = adder.add_image(made, Path(job.name), options.name)
            for other in others:  # named by their digests: a collector takes what has no name
                adder.add_image(other, Path(job.name))
        finally:
            adder.finish()
    if options.output is not None:
        make_image.write(made, options.output)
    if options.output is None or options.print_digest:
        say(digest)
    warn_unsealed(adder.unsealed, str(store.path))
    return EXIT_OK


class _Job:
    """What the options say of what the image is made of."""

    def __init__(self, options: argparse.Namespace) -> None:
        from pyinit.host.store import layers, make_image, oci, stdin
        from pyinit.host.store.layout import ALGORITHM_NAMES

        self._sources = [str(source) for source in options.sources]
        self.algorithm = ALGORITHM_NAMES[options.hash or "sha256"]
        self._peer: Path | None = options.check_with
        self._parts: Sequence[Part] | None = None
        self._input = self._container = None
        self._text: bytes | None = None
        self._is_tree = self._is_layers = False
        for source in self._sources:
            self._container = oci.parse(source)
            is_one = self._container is not None or source == stdin.NAME
            if len(self._sources) > 1 and (is_one or make_image.is_tree(source)):
                raise UsageError("usage", source, "one of several sources", "tar files")
        self._platform = _platform(options, is_container=self._container is not None)
        if len(self._sources) > 1 or self._container is not None:
            self._is_layers = True
        elif self.name == stdin.NAME:
            self._input = stdin.Input()
            self._is_layers = self._input.is_tar
        else:
            self._is_tree = make_image.is_tree(self.name)
            if self._is_tree:
                _refuse_layout(self.name)
            self._is_layers = not self._is_tree and layers.is_tar(self.name)
        self._changes = _changes(options, is_text=self.is_text)
        self._formats, self._chosen = _formats(options, self._changes)
        self.check_peer()

    @property
    def name(self) -> str:
        """Of the layers the last one."""
        return self._sources[-1]

    @property
    def is_text(self) -> bool:
        """A text says itself what each file is, and has no contents."""
        return not self._is_tree and not self._is_layers

    @contextmanager
    def opened(self) -> Iterator[None]:
        """With its layers open. What can be wrong with their names, or the texts of a container
        image, is said then, before anything is made of a store."""
        if not self._is_layers:
            yield
            return
        with self._layers() as self._parts:
            yield

    def _layers(self) -> Parts:
        from pyinit.host.store import layers, oci

        if self._parts is not None:
            return nullcontext(self._parts)
        if self._container is not None:
            return oci.layers(self._container, self._platform)
        return layers.files(self._sources) if self._input is None else self._input.layers()

    def made(self, progress: Progress) -> bytes:
        """The image."""
        from pyinit.host.store import layers, make_image

        if self.is_text:
            return self._of_text(self._formats[0])
        if self._is_layers:
            made = layers.make(
                self._layers(), self._formats[0], progress, self._changes, algorithm=self.algorithm
            )
            return self._judged(made)
        return make_image.make(
            self.name, *self._formats[0], progress, self._changes, algorithm=self.algorithm
        )

    def _of_text(self, versions: tuple[int, int]) -> bytes:
        from pyinit.host.store import make_image

        if self._text is None and self._input is not None:
            self._text = self._input.text(make_image.TEXT_LIMIT + 1)
        elif self._text is None:
            self._text = make_image.read_text(self.name)
        return make_image.of_text(self._text, self.name, versions)

    def choose_formats(self, numbers: Sequence[int]) -> None:
        """Takes those that a store asks for, unless the options say which."""
        from pyinit.host.store import make_image

        if not self._chosen:
            self._formats = make_image.in_formats(numbers, self._changes)

    def check_peer(self) -> None:
        """UsageError: the other program does not know the algorithm, or the format."""
        from pyinit.host.store import make_image
        from pyinit.host.store.layout import ALGORITHM_NAMES

        if self._peer is None:
            return
        if self.algorithm != ALGORITHM_NAMES["sha256"]:
            found = "digests of sha512, and mkcomposefs has sha256 alone"
            raise UsageError("usage", "--check-with", found, "a store of sha256, or none")
        if self._formats[0] == make_image.RUST:
            found = "format 2, and mkcomposefs has 0 and 1 alone"
            raise UsageError("usage", "--check-with", found, "another format, or none")

    def compare(self, made: bytes) -> None:
        """With what another program makes, where one is given."""
        if self._peer is not None:
            from pyinit.host.store import changes, check_with

            whole = self._is_tree and self._changes == changes.AS_IT_IS
            check_with.compare(str(self._peer), made, self.name, self._formats[0], whole=whole)

    def _judged(self, made: bytes) -> bytes:
        """One tar file may be an archive of an image, which was meant. Layers of a container, and
        several, are what was named so."""
        if self._container is None and len(self._sources) == 1:
            _check_root(made, self.name)
        return made

    def content(self, path: str, _: str) -> bytes:
        """Of a file, where it is not in the image itself. OSError: nobody has kept it."""
        from pathlib import Path

        from pyinit.host.store import labels

        if not self._is_tree:
            raise FileNotFoundError
        return labels.read(Path(self.name + path))

    def added(self, adder: TreeAdder) -> list[bytes]:
        """The image in each format, whose contents have been added then."""
        from pyinit.host.store import layers, make_image

        if self.is_text:
            return [self._of_text(versions) for versions in self._formats]
        if self._is_layers:
            made = layers.add(adder, self._layers(), self._formats, self._changes)
            self._judged(made[0])
            return made
        return make_image.add(adder, self.name, self._formats, self._changes)


def _formats(options: argparse.Namespace, changes: Changes) -> tuple[list[tuple[int, int]], bool]:
    """Those that the options say, else those without a store; and do the options say them?"""
    from pyinit.host.store import make_image

    limits = (options.min_version, options.max_version)
    number = options.erofs_version
    if number is None:
        return [make_image.versions(*limits, changes)], limits != (None, None)
    if limits != (None, None):
        found = "--min-version or --max-version is there too"
        raise UsageError("usage", "--erofs-version", found, "one of the two")
    return [make_image.RUST if number == make_image.RUST[0] else (number, number)], True


def _refuse_layout(directory: str) -> None:
    """It would be an image of its blobs."""
    from pathlib import Path

    if all(Path(directory, name).exists() for name in _LAYOUT):
        raise Refused("source", directory, "an OCI layout, and no root", f"oci:{directory}")


def _check_root(made: bytes, source: str) -> None:
    """Refused: what is in an image of a layer is no root, but an archive of one."""
    from pyinit.host.store import make_image

    image = make_image.read(made, source)
    if all(image.list(name, lambda _: None) for name in _LAYOUT):
        found = "an OCI archive, and no layer"
        raise Refused("source", source, found, "oci-archive:FILE, and not compressed")


def _platform(options: argparse.Namespace, *, is_container: bool) -> Platform | None:
    from pyinit.host.store import oci_text

    if options.platform is None:
        return None
    if not is_container:
        raise UsageError("usage", "--platform", "no container image", "oci:DIR or oci-archive:FILE")
    try:
        return oci_text.Platform.parse(options.platform)
    except ValueError:
        found = options.platform
        raise UsageError("usage", "--platform", found, "OS/ARCHITECTURE, linux/arm64") from None


def _warn(image: Image, content: Content) -> None:
    from pyinit.host.store import fights

    for fault in fights.found(image, content):
        warn(NAME, printable(f"{image.path}: {fault}"))


def _changes(options: argparse.Namespace, *, is_text: bool) -> Changes:
    import os

    from pyinit.host.store import changes

    wanted = changes.Changes(
        tuple(options.exclude),
        options.bootable,
        options.owner is not None,
        changes.latest(os.environ) if options.clamp_mtime else None,
        options.selinux,
    )
    if wanted != changes.AS_IT_IS and is_text:
        what = "--exclude, --bootable, --owner, --clamp-mtime or --selinux of a text"
        raise UsageError("usage", options.sources[0], what, "a directory, or tar files")
    return wanted
