# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store`: a store of objects and images, filled, sealed and looked at."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyinit.host.commands.command import Parser, VerbParser, complain, run, say, warn, write
from pyinit.initrd.report.errors import EXIT_OK, Refused, UsageError, printable
from pyinit.initrd.root.digest import ALGORITHMS

# What a verb needs is imported by the verb: `--version` and a typo are told at once.
if TYPE_CHECKING:
    from pathlib import Path

NAME = "cfs-store"
_SHOWN = 20  # of each kind of failure; the counts are always complete


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0, 1 wrong use, 2 system error, 4 a bug, 32 refused."""
    return run(NAME, _parser(), arguments)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _parser() -> VerbParser:
    parser = VerbParser(
        NAME, "Fills and seals a store of composefs objects, and says what images need of it."
    )

    verb = parser.add_verb(
        "add",
        _add,
        "put files into a store, each under its digest",
        description="Puts files into a store. The digest of each FILE and then of each --image is "
        "printed, one a line. A DIR is another store: all its objects are added, and each is "
        "compared with its name.",
    )
    verb.add_argument("--object-store", metavar="DIR", type=_path, required=True, help="the store")
    verb.add_argument("--create", action="store_true", help="make a repository if there is none")
    verb.add_argument(
        "--hash",
        choices=sorted(ALGORITHMS.values()),
        help="algorithm of the names (default: as the store says)",
    )
    verb.add_argument(
        "--verity",
        choices=["auto", "require", "off"],
        default="auto",
        help="enable fs-verity where the file system has it (auto, the default), always, or never",
    )
    verb.add_argument(
        "--image",
        dest="images",
        metavar="FILE",
        type=_path,
        action="append",
        default=[],
        help="an image: it is added, and a repository gets a link to it in images/",
    )
    verb.add_argument(
        "--name",
        metavar="NAME",
        help="name the image so in images/refs/cfs/ (default: its digest)",
    )
    verb.add_argument(
        "--allow-missing",
        action="store_true",
        help="add an image also where objects that it needs are missing",
    )
    verb.add_argument(
        "paths", metavar="FILE|DIR", type=_path, nargs="*", help="a file, or another store"
    )

    verb = parser.add_verb(
        "seal", _seal, "enable fs-verity on every object, and compare each with its name"
    )
    verb.add_argument("store", metavar="DIR", type=_path, help="the store")

    line = "list the objects that images need"
    described = "Lists the objects that the files of images have their contents in, each once."
    _add_images(parser.add_verb("objects", _objects, line, described))

    line = "list the objects of images that a store lacks"
    described = "Lists the objects that images need and the store does not have. Exit 32: some."
    verb = parser.add_verb("missing", _missing, line, described)
    verb.add_argument("--object-store", metavar="DIR", type=_path, required=True, help="the store")
    _add_images(verb)

    verb = parser.add_verb(
        "ls",
        _ls,
        "list the files of an image",
        description="Lists the files of an image, each with the target of a link or the object "
        "that has its content.",
    )
    verb.add_argument("image", metavar="FILE", type=_path, help="the image")
    verb.add_argument("path", metavar="PATH", nargs="?", help="list this, and what is below it")

    verb = parser.add_verb(
        "check",
        _check,
        "read every object of a store, and compare it with its name",
        description="Reads every object of a store on all cores and compares its fs-verity digest "
        "with its name. Each image has to be whole. A line for each fault. Exit 32: some.",
    )
    verb.add_argument("--sealed", action="store_true", help="a missing fs-verity is a fault")
    verb.add_argument("--json", action="store_true", help="print it as JSON")
    verb.add_argument("store", metavar="DIR", type=_path, help="the store")

    verb = parser.add_verb(
        "measure",
        _measure,
        "print the fs-verity digest of files",
        description="Prints the fs-verity digest of each file, one a line. It is computed here: "
        "the kernel does not need to know fs-verity.",
    )
    verb.add_argument(
        "--hash", choices=sorted(ALGORITHMS.values()), default="sha256", help="algorithm (sha256)"
    )
    verb.add_argument("files", metavar="FILE", type=_path, nargs="+", help="a file")

    line = "list the images of a store, and what needs each"
    verb = parser.add_verb(
        "images",
        _images,
        line,
        description="Lists the images of a store: digest, size, whether all objects are there, and "
        "which names, mounts and UKIs need it.",
    )
    _add_roots(verb)
    verb.add_argument("--json", action="store_true", help="print it as JSON")
    verb.add_argument("store", metavar="DIR", type=_path, help="the store")

    verb = parser.add_verb(
        "rm",
        _rm,
        "take an image out of a store",
        description="Takes an image out of a store, by its digest, or one of its names below "
        "images/refs. What a mount or a UKI needs stays. gc takes the objects.",
    )
    _add_roots(verb)
    verb.add_argument("--object-store", metavar="DIR", type=_path, required=True, help="the store")
    verb.add_argument("image", metavar="IMAGE", help="digest or name")

    verb = parser.add_verb(
        "gc",
        _gc,
        "remove what nothing needs",
        description="Moves the images and objects that nothing needs to gc/ in the store, and "
        "removes what has been there for a day. Exit 32, and nothing is removed: it cannot be read "
        "what is needed.",
    )
    _add_roots(verb)
    verb.add_argument(
        "--keep", metavar="DIGEST", action="append", default=[], help="keep this image too"
    )
    verb.add_argument("--dry-run", action="store_true", help="say what would be done, and do not")
    grace = verb.add_mutually_exclusive_group()
    grace.add_argument(
        "--grace",
        metavar="TIME",
        type=_seconds,
        default=24 * 60 * 60,
        help="how long things stay in gc/: seconds, or with m, h or d behind (default: 1d)",
    )
    grace.add_argument(
        "--now", dest="grace", action="store_const", const=0, help="remove them at once"
    )
    verb.add_argument("store", metavar="DIR", type=_path, help="the store")

    _add_image(parser)
    verb = parser.add_verb("dump", _dump, "print an image as text: composefs-dump(5)")
    verb.add_argument("image", metavar="FILE", type=_path, help="the image")
    return parser


def _add_roots(verb: Parser) -> None:
    verb.set_defaults(keep=[])
    ukis = verb.add_mutually_exclusive_group()
    ukis.add_argument(
        "--uki",
        dest="ukis",
        metavar="FILE|DIR",
        type=_path,
        action="append",
        default=[],
        help="a UKI, or a directory with UKIs (default: those on the disk of the store)",
    )
    ukis.add_argument("--no-uki", action="store_true", help="no UKI needs an image of this store")
    verb.add_argument(
        "--except",
        dest="excepted",
        metavar="FILE",
        type=_path,
        action="append",
        default=[],
        help="a UKI, or a mount point, that has nothing to do with this store",
    )


def _seconds(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number = text[:-1] if text[-1:] in units else text
    if not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"no time: {text!r}")
    return int(number) * units.get(text[-1:], 1)


def _add_image(parser: VerbParser) -> None:
    verb = parser.add_verb(
        "image",
        _image,
        "make an image of a directory, or from a text: composefs-dump(5)",
        description="Makes an image of a directory, or from a text in the format of "
        "composefs-dump(5), byte for byte as mkcomposefs 1.0.8 makes it. It is read back before it "
        "gets its name.",
    )
    verb.add_argument(
        "-o", "--output", dest="output", metavar="OUT", type=_path, help="where the image goes"
    )
    verb.add_argument("--print-digest", action="store_true", help="print the image's digest too")
    verb.add_argument("--digest-only", action="store_true", help="print it, and write no image")
    for name, word in (("--min-version", "lowest"), ("--max-version", "highest")):
        verb.add_argument(
            name, type=int, choices=(0, 1), help=f"the {word} version of the format, of 0 and 1"
        )
    verb.add_argument(
        "source", metavar="FILE|DIR", help="the directory or the text; - is standard input"
    )


def _add_images(verb: Parser) -> None:
    verb.add_argument("images", metavar="FILE", type=_path, nargs="+", help="an image")


def _add(options: argparse.Namespace) -> int:
    if not options.paths and not options.images:
        raise UsageError("usage", "add", "nothing to add", "FILE, DIR or --image FILE")
    from pyinit.host.store import add, image, lock
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
    with lock.shared(store, _tell), _working("adding", options) as progress:
        adder = add.Adder(store, options.verity, progress)
        try:
            jobs, count = add.jobs_of(options.paths, algorithm)
            digests = adder.add(jobs)[:count]
            add.check_images(images, store, allow_missing=options.allow_missing, tell=_tell)
            digests += add.add_images(adder, images, algorithm, options.name)
        finally:
            adder.finish()
    for digest in digests:
        say(digest)
    if adder.unsealed:
        warn(NAME, f"{store.path}: not sealed: {adder.unsealed}; `cfs-store seal` does it later")
    return EXIT_OK


def _seal(options: argparse.Namespace) -> int:
    from pyinit.host.store import lock, seal
    from pyinit.host.store.layout import Store

    store = Store(options.store)
    store.require_writable()
    with lock.shared(store, _tell), _progress(options) as progress:
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


def _objects(options: argparse.Namespace) -> int:
    from pyinit.host.store import image

    write(image.objects(map(image.read, options.images))[0])
    return EXIT_OK


def _missing(options: argparse.Namespace) -> int:
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


def _ls(options: argparse.Namespace) -> int:
    from pyinit.host.store import image

    if not image.read(options.image).list(options.path, write):
        raise UsageError("usage", options.path, f"no such file in {options.image}")
    return EXIT_OK


def _dump(options: argparse.Namespace) -> int:
    from pyinit.host.store import image

    image.read(options.image).dump(write)
    return EXIT_OK


def _image(options: argparse.Namespace) -> int:
    if options.digest_only == (options.output is not None):
        raise UsageError("usage", "image", "one of -o and --digest-only is needed")
    from pyinit.host.store import make_image

    with _working("reading", options) as progress:
        made = make_image.make(options.source, options.min_version, options.max_version, progress)
    digest = make_image.digest(made)
    if options.digest_only:
        make_image.check(made)
    else:
        make_image.write(made, options.output)
    if options.digest_only or options.print_digest:
        say(digest)
    return EXIT_OK


def _check(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from pyinit.host.store import lock
    from pyinit.host.store.check import check
    from pyinit.host.store.layout import Store
    from pyinit.host.store.sweep import sweep

    store = Store(options.store)
    if swept := sweep(store, lock.place(store)):
        _tell(f"{store.path}: {swept} temporary files removed, which a killed `add` had left")
    with lock.shared(store, _tell), _working("reading", options) as progress:
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


def _measure(options: argparse.Namespace) -> int:
    from pyinit.host.store.check import measure
    from pyinit.host.store.layout import ALGORITHM_NAMES

    with _working("reading", options) as progress:
        digests = measure(options.files, ALGORITHM_NAMES[options.hash], progress)
    say(*digests)
    return EXIT_OK


def _images(options: argparse.Namespace) -> int:
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


def _rm(options: argparse.Namespace) -> int:
    from pyinit.host.commands.store_roots import look
    from pyinit.host.store import lock, names
    from pyinit.host.store.layout import Store

    store = Store(options.object_store)
    with lock.exclusive(store, _tell):
        done = names.remove(store, options.image, lambda: look(store, options))
    say(printable(done))
    return EXIT_OK


def _gc(options: argparse.Namespace) -> int:
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


@contextmanager
def _working(what: str, options: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """How many objects and bytes are done, as soon as that takes over a second: a bar on a
    terminal, a line now and then elsewhere."""
    if options.quiet:
        yield lambda _, __: None
        return
    if not sys.stderr.isatty():
        yield _Rates(what)
        return
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, desc=what, delay=1, leave=False) as bar:
        started = time.monotonic()

        def show(objects: int, size: int) -> None:
            rate = objects / max(time.monotonic() - started, 1e-9)
            bar.set_postfix_str(f"{objects} objects, {rate:.0f}/s", refresh=False)
            bar.update(size - bar.n)

        yield show


class _Rates:
    """A line after a second, then after twice as long each time."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._next = 1.0

    def __call__(self, objects: int, size: int) -> None:
        seconds = time.monotonic() - self._started
        if seconds < self._next:
            return
        self._next = 2 * seconds
        complain(
            NAME,
            f"{self._what}: {objects} objects ({objects / seconds:.0f}/s), "
            f"{size / 1e6:.0f} MB ({size / seconds / 1e6:.0f} MB/s)",
        )


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line for each tenth elsewhere."""
    if options.quiet:
        yield lambda _, __: None
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from tqdm import tqdm

    with tqdm(unit="object", desc="sealing") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class _Lines:
    def __init__(self) -> None:
        self.tenths = 0

    def __call__(self, done: int, total: int) -> None:
        tenths = 10 * done // total
        if tenths > self.tenths:
            self.tenths = tenths
            complain(NAME, f"sealing: {done} of {total}")
