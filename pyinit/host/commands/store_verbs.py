# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verbs of `cfs-store`: each takes what cfs_store.py has parsed, and gives the exit code.

What a verb needs is imported by the verb: `--version` and a typo are told at once.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pyinit.host.commands.command import complain, say, warn, write
from pyinit.host.commands.progress import rates, tenths
from pyinit.initrd.report.errors import EXIT_OK, Refused, UsageError, printable

if TYPE_CHECKING:
    from pyinit.host.store.image import Image

NAME = "cfs-store"
_SHOWN = 20  # of each kind of failure; the counts are always complete


def add(options: argparse.Namespace) -> int:
    """Files, other stores and images go into a store."""
    if not options.paths and not options.images:
        raise UsageError("usage", "add", "nothing to add", "FILE, DIR or --image FILE")
    from pyinit.host.store import add, image, metadata
    from pyinit.host.store.create import created
    from pyinit.host.store.jobs import algorithm_of
    from pyinit.host.store.layout import ALGORITHM_NAMES

    if options.name is not None:
        add.check_name(options.name)
        if len(options.images) != 1:
            raise UsageError("usage", "--name", f"{len(options.images)} images", "one")
    if options.erofs_version is not None and not options.create:
        raise UsageError("usage", "--erofs-version", "no --create, and add makes no image")
    images = [image.read(path) for path in options.images]
    if not options.create:
        return _add(options, images)
    named = ALGORITHM_NAMES.get(options.hash) or algorithm_of(options.paths)
    number = options.erofs_version
    image_format = metadata.FORMAT if number is None else number
    with created(options.object_store, named, options.verity, image_format):
        return _add(options, images)


def _add(options: argparse.Namespace, images: list[Image]) -> int:
    from pyinit.host.store import add, labels, lock
    from pyinit.host.store.jobs import jobs_of
    from pyinit.host.store.layout import Store
    from pyinit.host.store.sweep import sweep

    store = Store(options.object_store)
    if options.erofs_version is not None:
        store.require_format(options.erofs_version)
    algorithm = store.choose_algorithm(options.hash)
    sweep(store, lock.place(store))
    with lock.shared(store, tell), rates(NAME, "adding", quiet=options.quiet) as progress:
        adder = add.Adder(store, options.verity, progress)
        try:
            jobs, count = jobs_of(options.paths, algorithm)
            digests = adder.add(jobs)[:count]
            add.check_images(images, store, allow_missing=options.allow_missing, tell=tell)
            for one in images:
                if labels.missing(one, lambda name: labels.read(store.objects / name)):
                    warn(NAME, f"{one.path}: {labels.WARNING}")
            digests += add.add_images(adder, images, algorithm, options.name)
        finally:
            adder.finish()
    for digest in digests:
        say(digest)
    warn_unsealed(adder.unsealed, str(store.path))
    return EXIT_OK


def seal(options: argparse.Namespace) -> int:
    """fs-verity on every object."""
    from pyinit.host.store import lock, seal
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    store.require_writable()
    with lock.shared(store, tell), tenths(NAME, "sealing", quiet=options.quiet) as progress:
        report = seal.seal_store(store, progress)
    for refused in report.wrong[:_SHOWN]:
        complain(NAME, refused)
    for reason, count in report.reasons.most_common():
        # What stops every object is no matter of one of them.
        shown = 1 if count == report.total else _SHOWN
        paths = [path for path, why in report.not_sealed if why == reason]
        for path in paths[:shown]:
            complain(NAME, printable(f"not sealed: {path}: {reason}"))
        complain(NAME, printable(f"{count} not sealed: {reason}"))
    say(
        f"{report.total} objects: {report.sealed} sealed, {report.sealed_before} were sealed, "
        f"{len(report.not_sealed)} not sealed, {len(report.wrong)} of other content"
    )
    failure = report.failure(store.path)
    if failure is not None:
        raise failure
    return EXIT_OK


def tell(text: str) -> None:
    """A line of what is wrong, before the one that ends it."""
    complain(NAME, printable(text))


def objects(options: argparse.Namespace) -> int:
    """The objects that images need."""
    from pyinit.host.store import image

    write(image.objects(map(image.read, options.images))[0])
    return EXIT_OK


def missing(options: argparse.Namespace) -> int:
    """Those that a store does not have."""
    from pyinit.host.store import image, lock
    from pyinit.host.store.layout import Store

    store = Store(options.object_store)
    with lock.shared(store, tell):
        lines, absent, total = image.missing(map(image.read, options.images), store.objects)
    write(lines)
    if absent:
        found = f"{absent} of {total} objects are missing"
        raise Refused("store", str(options.object_store), found)
    return EXIT_OK


def ls(options: argparse.Namespace) -> int:
    """The files of an image."""
    from pyinit.host.store import image

    if not image.read(options.image).list(options.path, write):
        raise UsageError("usage", options.path, f"no such file in {options.image}")
    return EXIT_OK


def dump(options: argparse.Namespace) -> int:
    """An image as text."""
    from pyinit.host.store import image

    image.read(options.image).dump(write)
    return EXIT_OK


def warn_unsealed(why: str, store: str) -> None:
    """Says why objects were not sealed."""
    if why:
        warn(NAME, f"{store}: not sealed: {why}; `cfs-store seal` does it later")


def check(options: argparse.Namespace) -> int:
    """Every object is read, and compared with its name."""
    from pyinit.host.store import lock
    from pyinit.host.store.check import check
    from pyinit.host.store.layout import Store
    from pyinit.host.store.sweep import sweep

    store = Store(options.store)
    if swept := sweep(store, lock.place(store)):
        tell(f"{store.path}: {swept} temporary files removed, which a killed `add` had left")
    with lock.shared(store, tell), rates(NAME, "reading", quiet=options.quiet) as progress:
        report = check(store, sealed=options.sealed, progress=progress)
    if options.json:
        import json

        say(json.dumps(report.as_dict(), indent=2))
    else:
        for fault in report.faults:
            say(printable(str(fault)))
        say(
            f"{report.objects} objects, {report.sealed} sealed, {report.images} images, "
            f"{len(report.faults)} faults"
        )
    if not report.objects:
        raise Refused("store", str(store.path), "no object in it", "a store that has been filled")
    if report.faults:
        raise Refused("measure", str(store.path), f"{len(report.faults)} faults")
    return EXIT_OK


def measure(options: argparse.Namespace) -> int:
    """The digests of files."""
    from pyinit.host.store.check import measure
    from pyinit.host.store.layout import ALGORITHM_NAMES

    with rates(NAME, "reading", quiet=options.quiet) as progress:
        digests = measure(options.files, ALGORITHM_NAMES[options.hash], progress)
    say(*digests)
    return EXIT_OK


def images(options: argparse.Namespace) -> int:
    """The images of a store, and what needs each."""
    from pyinit.host.commands.store_roots import look
    from pyinit.host.store import lock, names
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    with lock.shared(store, tell):
        needed = look(store, options)
        images = names.listed(store, needed)
    for error in needed.unread:
        warn(NAME, f"not known whether it needs an image: {error.path}: {error.found}")
    if options.json:
        import json

        say(json.dumps([one.as_dict() for one in images], indent=2))
        return EXIT_OK
    for one in images:
        say(printable(f"{one.digest}  {one.size} bytes, {one.state}"))
        for kind, whys in (
            ("name", one.names),
            ("in use by", one.mounts),
            ("named by", one.ukis),
            ("needed by", one.records),
        ):
            for why in whys:
                say(printable(f"  {kind} {why}"))
    return EXIT_OK


def rm(options: argparse.Namespace) -> int:
    """An image leaves its store."""
    from pyinit.host.commands.store_roots import look
    from pyinit.host.store import lock, names
    from pyinit.host.store.layout import Store

    store = Store(options.object_store)
    with lock.exclusive(store, tell):
        done = names.remove(store, options.image, lambda: look(store, options))
    say(printable(done))
    return EXIT_OK


def gc(options: argparse.Namespace) -> int:
    """What nothing needs is moved aside, and removed later."""
    from pyinit.host.commands.store_roots import look
    from pyinit.host.store import gc, lock
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    # Nothing is changed by a dry run: others may go on.
    hold = lock.shared if options.dry_run else lock.exclusive
    with hold(store, tell):
        report = gc.collect(
            store,
            lambda known: look(store, options, known),
            grace=options.grace,
            dry_run=options.dry_run,
        )
    for path in report.passed_over[:_SHOWN]:
        warn(NAME, f"passed over: {path}: no object")
    if len(report.passed_over) > _SHOWN:
        warn(NAME, f"passed over: {len(report.passed_over)} files that are no objects")
    for name in report.images:
        say(f"image {name}")
    would = "would be " if options.dry_run else ""
    say(
        f"{report.live} objects are needed",
        f"{report.moved} objects ({report.moved_bytes} bytes), {report.links} links {would}"
        f"moved to {printable(str(store.path))}/gc",
    )
    if report.back:
        say(f"{report.back} objects {would}moved back: they are needed again")
    say(
        f"{report.removed} objects ({report.removed_bytes} bytes) {would}removed, "
        f"{report.waiting} ({report.waiting_bytes} bytes) wait"
    )
    return EXIT_OK
