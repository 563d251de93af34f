# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`--embed`: the image of the root, to lie in the UKI's initrd. UKIs and images do not know each
other; here they meet."""

from __future__ import annotations

import _cfs
import argparse
from typing import TYPE_CHECKING

from pyinit.host.failure import system_failure
from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.payload import INITRD

if TYPE_CHECKING:
    from pathlib import Path

    from pyinit.host.store.image import Image
    from pyinit.host.uki.seal import Embedded

# The kernel has it in memory for as long as the machine runs.
_LARGEST = 256 << 20


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def add_embed(parser: argparse.ArgumentParser) -> None:
    """Adds --embed and --embed-objects to a parser."""
    parser.add_argument(
        "--embed",
        metavar="FILE",
        type=_path,
        help="put this image into the initrd; the boot takes it from there, and its objects from "
        "the store",
    )
    parser.add_argument(
        "--embed-objects",
        metavar="STORE",
        type=_path,
        help="put the objects of that image into the initrd too, from this store: the root needs "
        "no disk",
    )


def take(
    options: argparse.Namespace, digests: list[Digest], others: dict[str, Digest]
) -> tuple[Embedded | None, list[Digest]]:
    """What is to be embedded, and the candidates: without any given, the image's digest.
    UsageError: no candidates, or others, or too large. Refused: it is no composefs image, or an
    object is not there, or is another one than its name says."""
    if options.embed is None:
        if options.embed_objects is not None:
            raise UsageError("usage", "--embed-objects", "without --embed")
        if not digests:
            raise UsageError("usage", "--digest", "not there", "--digest DIGEST, or --embed FILE")
        return None, digests
    from pyinit.host.store import image
    from pyinit.host.uki.seal import Embedded

    if INITRD in others:
        found = "not together with --initrd: the second initrd does not see what the first has"
        raise UsageError("usage", "--embed", found)
    read = image.read(options.embed)
    _check_size(options.embed, len(read.data))
    if not digests:
        digests = [read.digest(image.algorithm(read))]
    own = {each: read.digest(each) for each in dict.fromkeys(d.algorithm for d in digests)}
    if not any(digest in own.values() for digest in digests):
        wrong = " or ".join(map(str, own.values()))
        raise UsageError("usage", str(options.embed), wrong, "an image that --digest names")
    if options.embed_objects is None:
        return Embedded(read.data), digests
    if len(digests) > 1 or any(not key.startswith("app.") for key in others):
        only = "other images beside it: their objects lie on a disk, and none is mounted"
        raise UsageError("usage", "--embed-objects", only)
    return Embedded(read.data, _objects(read, options.embed_objects)), digests


def _objects(read: Image, place: Path) -> dict[str, bytes]:
    import _cfshost

    from pyinit.host.store import image
    from pyinit.host.store.layout import Store

    store = Store(place)
    found: dict[str, bytes] = {}
    total = len(read.data)
    for line in image.objects([read])[0].splitlines():
        name = line.decode("ascii")
        path = store.objects / name
        try:
            total += path.stat().st_size
            _check_size(place, total)
            content = path.read_bytes()
        except OSError as error:
            raise system_failure(error, str(path), "store") from None
        digits = name.replace("/", "")
        algorithm = _cfs.SHA512 if len(digits) == 128 else _cfs.SHA256
        content_digest = Digest(algorithm, _cfshost.verity_digest(content, algorithm))
        if content_digest.hex != digits:
            raise Refused("measure", str(path), str(content_digest), "what its name says")
        found[name] = content
    return found


def _check_size(place: Path, size: int) -> None:
    if size > _LARGEST:
        large = f"too large: {size} bytes would stay in memory"
        raise UsageError("usage", str(place), large, f"at most {_LARGEST}")
