# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verbs of `cfs-store`: each takes what cfs_store.py has parsed, and gives the exit code.

What a verb needs is imported by the verb: `--version` and a typo are told at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyinit.host.commands.command import complain, say, warn, write
from pyinit.host.commands.progress import rates, tenths
from pyinit.initrd.report.errors import EXIT_OK, Refused, UsageError, printable

if TYPE_CHECKING:
    from pyinit.host.store.changes import Changes
    from pyinit.host.store.image import Image

NAME = "cfs-store"
_SHOWN = 20  # of each kind of failure; the counts are always complete


def add(options: argparse.Namespace) -> int:
    """Files, other stores and images go into a store."""
    if not options.paths and not options.images:
        raise UsageError("usage", "add", "nothing to add", "FILE, DIR or --image FILE")
    from pyinit.host.store import add, image, labels, lock
    from pyinit.host.store.create import create
    from pyinit.host.store.layout import ALGORITHM_NAMES, Store
    from pyinit.host.store.sweep import sweep

    if options.name is not None:
        add.check_name(options.name)
        if len(options.images) != 1:
            raise UsageError("usage", "--name", f"{len(options.images)} images", "one")
    images = [image.read(path) for path in options.images]
    if options.create:
        named = ALGORITHM_NAMES.get(options.hash) or add.algorithm_of(options.paths)
        create(options.object_store, named, options.verity)
    store = Store(options.object_store)
    algorithm = store.choose_algorithm(options.hash)
    sweep(store, lock.place(store))
    with lock.shared(store, _tell), rates(NAME, "adding", quiet=options.quiet) as progress:
        adder = add.Adder(store, options.verity, progress)
        try:
            jobs, count = add.jobs_of(options.paths, algorithm)
            digests = adder.add(jobs)[:count]
            add.check_images(images, store, allow_missing=options.allow_missing, tell=_tell)
            for one in images:
                _warn_of_labels(one, lambda name: labels.read(store.objects / name))
            digests += add.add_images(adder, images, algorithm, options.name)
        finally:
            adder.finish()
    for digest in digests:
        say(digest)
    _warn_unsealed(adder.unsealed, str(store.path))
    return EXIT_OK


def _warn_of_labels(image: Image, read: Callable[[str], bytes]) -> None:
    from pyinit.host.store import labels

    if labels.missing(image, read):
        warn(NAME, f"{image.path}: {labels.WARNING}")


def seal(options: argparse.Namespace) -> int:
    """fs-verity on every object."""
    from pyinit.host.store import lock, seal
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    store.require_writable()
    with lock.shared(store, _tell), tenths(NAME, "sealing", quiet=options.quiet) as progress:
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


def _tell(text: str) -> None:
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
    with lock.shared(store, _tell):
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


def image(options: argparse.Namespace) -> int:
    """An image is made, and goes to a file, or to a store with all that it needs."""
    if options.object_store is not None:
        return _image_into_store(options)
    if options.digest_only == (options.output is not None):
        wanted = "one of -o, --object-store and --digest-only is needed"
        raise UsageError("usage", "image", wanted)
    for option in ("name", "create"):
        if getattr(options, option):
            raise UsageError("usage", f"--{option}", "no store", "--object-store DIR too")
    from pathlib import Path

    from pyinit.host.store import labels, make_image

    changes = _changes(options)
    with rates(NAME, "reading", quiet=options.quiet) as progress:
        made = make_image.make(
            options.source, options.min_version, options.max_version, progress, changes
        )
    digest = make_image.digest(made)
    if options.digest_only:
        make_image.check(made)
    else:
        make_image.write(made, options.output)
    config = options.source + labels.CONFIG  # where it is no short one, which is in the image
    _warn_of_labels(make_image.read(made, options.source), lambda _: labels.read(Path(config)))
    if options.digest_only or options.print_digest:
        say(digest)
    return EXIT_OK


def _image_into_store(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pyinit.host.store import add, labels, lock, make_image
    from pyinit.host.store.add_tree import TreeAdder
    from pyinit.host.store.create import create
    from pyinit.host.store.layout import ALGORITHM_NAMES, Store
    from pyinit.host.store.sweep import sweep

    if options.digest_only:
        raise UsageError("usage", "--digest-only", "it writes nothing", "no --object-store")
    if options.name is not None:
        add.check_name(options.name)
    versions = (options.min_version, options.max_version)
    changes = _changes(options)
    made = None
    if not make_image.is_tree(options.source):  # before anything is made of the store
        made = make_image.make(options.source, *versions)
    if options.create:
        create(options.object_store, ALGORITHM_NAMES["sha256"], options.verity)
    store = Store(options.object_store)
    sweep(store, lock.place(store))
    with lock.shared(store, _tell), rates(NAME, "adding", quiet=options.quiet) as progress:
        adder = TreeAdder(store, options.verity, progress)
        try:
            of_tree = made is None
            if made is None:
                made = make_image.add(adder, options.source, *versions, changes)
            parsed = make_image.read(made, options.source)
            if not of_tree:
                add.check_images([parsed], store, allow_missing=False, tell=_tell)
            _warn_of_labels(parsed, lambda name: labels.read(store.objects / name))
            digest = adder.add_image(made, Path(options.source), options.name)
        finally:
            adder.finish()
    if options.output is not None:
        make_image.write(made, options.output)
    if options.output is None or options.print_digest:
        say(digest)
    _warn_unsealed(adder.unsealed, str(store.path))
    return EXIT_OK


def _changes(options: argparse.Namespace) -> Changes:
    """Of files of a directory. A text says itself what each file is."""
    import os

    from pyinit.host.store import changes, make_image

    wanted = changes.Changes(
        tuple(options.exclude),
        options.bootable,
        options.owner is not None,
        changes.latest(os.environ) if options.clamp_mtime else None,
    )
    if wanted != changes.AS_IT_IS and not make_image.is_tree(options.source):
        what = "--exclude, --bootable, --owner or --clamp-mtime of a text"
        raise UsageError("usage", options.source, what, "a directory")
    return wanted


def _warn_unsealed(why: str, store: str) -> None:
    if why:
        warn(NAME, f"{store}: not sealed: {why}; `cfs-store seal` does it later")


def check(options: argparse.Namespace) -> int:
    """Every object is read, and compared with its name."""
    from dataclasses import asdict

    from pyinit.host.store import lock
    from pyinit.host.store.check import check
    from pyinit.host.store.layout import Store
    from pyinit.host.store.sweep import sweep

    store = Store(options.store)
    if swept := sweep(store, lock.place(store)):
        _tell(f"{store.path}: {swept} temporary files removed, which a killed `add` had left")
    with lock.shared(store, _tell), rates(NAME, "reading", quiet=options.quiet) as progress:
        report = check(store, sealed=options.sealed, progress=progress)
    if options.json:
        import json

        say(json.dumps(asdict(report), indent=2))
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
    from dataclasses import asdict

    from pyinit.host.commands.store_roots import look
    from pyinit.host.store import lock, names
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    with lock.shared(store, _tell):
        needed = look(store, options)
        images = names.listed(store, needed)
    for error in needed.unread:
        warn(NAME, f"not known whether it needs an image: {error.path}: {error.found}")
    if options.json:
        import json

        say(json.dumps([asdict(one) for one in images], indent=2))
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
    with lock.exclusive(store, _tell):
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
    with hold(store, _tell):
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
