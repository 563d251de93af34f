# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store`: a store of objects and images, filled, sealed and looked at. Its command line."""

from __future__ import annotations

import argparse

from pyinit.host.commands import store_image, store_verbs
from pyinit.host.commands.command import Parser, VerbParser, run
from pyinit.initrd.root.digest import ALGORITHMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

NAME = store_verbs.NAME


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0, 1 wrong use, 2 system error, 4 a bug, 32 refused."""
    return run(NAME, _parser(), arguments)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _parser() -> VerbParser:
    parser = VerbParser(
        NAME,
        "Fills and seals a store of composefs objects, and says what images need of it.",
    )

    verb = parser.add_verb(
        "add",
        store_verbs.add,
        "put files into a store, each under its digest",
        description="Puts files into a store. The digest of each FILE and then of each --image is "
        "printed, one a line. A DIR is another store: all its objects are added, and each is "
        "compared with its name.",
    )
    _add_object_store(verb)
    _add_create(verb, "with --create, the format that the store asks for (default: 1)")
    _add_hash(verb, "algorithm of the names (default: as the store says)")
    _add_verity(verb)
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
        "seal", store_verbs.seal, "enable fs-verity on every object, and compare each with its name"
    )
    _add_store(verb)

    line = "list the objects that images need"
    described = "Lists the objects that the files of images have their contents in, each once."
    _add_images(parser.add_verb("objects", store_verbs.objects, line, described))

    line = "list the objects of images that a store lacks"
    described = "Lists the objects that images need and the store does not have. Exit 32: some."
    verb = parser.add_verb("missing", store_verbs.missing, line, described)
    _add_object_store(verb)
    _add_images(verb)

    verb = parser.add_verb(
        "ls",
        store_verbs.ls,
        "list the files of an image",
        description="Lists the files of an image, each with the target of a link or the object "
        "that has its content.",
    )
    _add_image_file(verb)
    verb.add_argument("path", metavar="PATH", nargs="?", help="list this, and what is below it")

    verb = parser.add_verb(
        "check",
        store_verbs.check,
        "read every object of a store, and compare it with its name",
        description="Reads every object of a store on all cores and compares its fs-verity digest "
        "with its name. Each image has to be whole. A line for each fault. Exit 32: some.",
    )
    verb.add_argument("--sealed", action="store_true", help="a missing fs-verity is a fault")
    _add_json(verb)
    _add_store(verb)

    verb = parser.add_verb(
        "measure",
        store_verbs.measure,
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
        store_verbs.images,
        line,
        description="Lists the images of a store: digest, size, whether all objects are there, and "
        "which names, mounts and UKIs need it.",
    )
    _add_roots(verb)
    _add_json(verb)
    _add_store(verb)

    verb = parser.add_verb(
        "rm",
        store_verbs.rm,
        "take an image out of a store",
        description="Takes an image out of a store, by its digest, or one of its names below "
        "images/refs. What a mount or a UKI needs stays. gc takes the objects.",
    )
    _add_roots(verb)
    _add_object_store(verb)
    verb.add_argument("image", metavar="IMAGE", help="digest or name")

    verb = parser.add_verb(
        "gc",
        store_verbs.gc,
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
    _add_store(verb)

    _add_image(parser)
    verb = parser.add_verb("dump", store_verbs.dump, "print an image as text: composefs-dump(5)")
    _add_image_file(verb)
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
        store_image.image,
        "make an image of a directory, of a container's layers, or from a text",
        description="Makes an image of a directory, of tar files, which are the layers of a "
        "container's root, the lowest one first, of a container image in the layout of OCI, or "
        "from a text in the format of composefs-dump(5), byte for byte as mkcomposefs 1.0.8 makes "
        "it, or composefs-rs in format 2. It is read back before it gets its name. With "
        "--object-store the contents and the image go into a store, each file read once.",
    )
    verb.add_argument(
        "--object-store", metavar="DIR", type=_path, help="put objects and image into this store"
    )
    text = "the format, as composefs-rs numbers it (default: that of the store, else 0 or 1)"
    _add_create(verb, text)
    _add_hash(verb, "algorithm of all digests (default: as the store says, else sha256)")
    _add_verity(verb)
    verb.add_argument("--name", metavar="NAME", help="name the image so in images/refs/cfs/")
    verb.add_argument(
        "-o", "--output", dest="output", metavar="OUT", type=_path, help="where the image goes"
    )
    verb.add_argument(
        "--print-digest", action="store_true", help="with -o, print the image's digest too"
    )
    verb.add_argument("--digest-only", action="store_true", help="print it, and write no image")
    verb.add_argument(
        "--exclude",
        metavar="GLOB",
        action="append",
        default=[],
        help="leave these files out, and what is in them: paths that begin with a slash",
    )
    verb.add_argument(
        "--bootable",
        action="store_true",
        help="as composefs-rs has a tree that boots: without what is in /boot, /sysroot and /run",
    )
    verb.add_argument(
        "--selinux", metavar="FILE", type=_path, help="labels by this file_contexts of a policy"
    )
    verb.add_argument(
        "--platform",
        metavar="OS/ARCH",
        help="of a container image, the one for this machine, as linux/arm64 (default: for ours)",
    )
    verb.add_argument("--owner", choices=["root"], help="all files are root's")
    verb.add_argument(
        "--clamp-mtime",
        action="store_true",
        help="no file is younger than SOURCE_DATE_EPOCH, a variable of the environment",
    )
    verb.add_argument(
        "--check-with",
        metavar="PROGRAM",
        type=_path,
        help="compare it with what this makes: mkcomposefs",
    )
    for name, word in (("--min-version", "lowest"), ("--max-version", "highest")):
        verb.add_argument(
            name, type=int, choices=(0, 1), help=f"the {word} version of the format, of 0 and 1"
        )
    verb.add_argument(
        "sources",
        metavar="FILE|DIR",
        nargs="+",
        help="the directory, the layers or the text, - for one of them on standard input; or a "
        "container image, as oci:DIR[:NAME] or oci-archive:FILE[:NAME]",
    )


def _add_store(verb: Parser) -> None:
    verb.add_argument("store", metavar="DIR", type=_path, help="the store")


def _add_object_store(verb: Parser) -> None:
    verb.add_argument("--object-store", metavar="DIR", type=_path, required=True, help="the store")


def _add_create(verb: Parser, of_format: str) -> None:
    verb.add_argument("--create", action="store_true", help="make a repository if there is none")
    verb.add_argument("--erofs-version", type=int, choices=(0, 1, 2), help=of_format)


def _add_hash(verb: Parser, text: str) -> None:
    verb.add_argument("--hash", choices=sorted(ALGORITHMS.values()), help=text)


def _add_verity(verb: Parser) -> None:
    verb.add_argument(
        "--verity",
        choices=["auto", "require", "off"],
        default="auto",
        help="enable fs-verity where the file system has it (auto, the default), always, or never",
    )


def _add_json(verb: Parser) -> None:
    verb.add_argument("--json", action="store_true", help="print it as JSON")


def _add_image_file(verb: Parser) -> None:
    verb.add_argument("image", metavar="FILE", help="the image")


def _add_images(verb: Parser) -> None:
    verb.add_argument("images", metavar="FILE", nargs="+", help="an image")
