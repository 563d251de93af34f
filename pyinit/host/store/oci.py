# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A container image in an OCI image layout: `oci:DIR[:NAME]`, or in an archive of one,
`oci-archive:FILE[:NAME]`, as skopeo and podman write them.

Every blob has to have the digest by which it is named; a layer's is checked while it is read.
"""

from __future__ import annotations

import _cfs
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from pyinit.host.failure import system_failure
from pyinit.host.store import oci_blobs, oci_text
from pyinit.host.store.layers import Part
from pyinit.host.store.oci_blobs import Layout
from pyinit.host.store.oci_text import Descriptor, Platform, shown
from pyinit.initrd.machine.tpm_message import ALGORITHMS as TPM_ALGORITHMS
from pyinit.initrd.report.errors import Refused, UsageError

_TRANSPORTS = {"oci": False, "oci-archive": True}
_OTHERS = ("containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "tarball")
_DEPTH = 3  # of indexes in each other
_SHOWN = 20
_NUMBER = re.compile(r"@(0|[1-9][0-9]{0,8})")
_Value = TypeVar("_Value")


class Source(NamedTuple):
    """What the words on the command line say."""

    path: str
    is_archive: bool
    name: str | None
    """Of the image; @N is the Nth one of the index, from 0."""


def parse(word: str) -> Source | None:
    """None: it is of another kind. UsageError: it is of a kind that is not read here."""
    transport, colon, rest = word.partition(":")
    if not colon:
        return None
    if transport in _OTHERS and not os.path.lexists(word):
        wanted = f"oci:DIR or oci-archive:FILE, as `skopeo copy {word} oci:DIR` makes it"
        raise UsageError("usage", word, "an image that is not read here", wanted)
    if transport not in _TRANSPORTS:
        return None
    path, _, name = rest.partition(":")
    if not path:
        raise UsageError("usage", word, "no path", f"{transport}:PATH[:NAME]")
    return Source(path, _TRANSPORTS[transport], name or None)


@contextmanager
def layers(source: Source, platform: Platform | None) -> Iterator[Sequence[Part]]:
    """The layers of the image. `platform`: None is that of this machine.

    SystemFailure: something cannot be read. Refused: it is no layout, or broken, or no one image is
    meant.
    """
    with oci_blobs.opened(source.path, is_archive=source.is_archive) as layout:
        yield _Image(layout, source.name, platform).layers()


class _Image:
    def __init__(self, layout: Layout, name: str | None, platform: Platform | None) -> None:
        self._layout = layout
        self._name = name
        # What it has to be for; an image that is there alone may be for any.
        self._wanted = platform
        self._platform = platform or oci_text.platform_of(os.uname().machine)

    def layers(self) -> list[Part]:
        self._parsed("oci-layout", self._read("oci-layout"), oci_text.layout)
        found = self._parsed("index.json", self._read("index.json"), oci_text.index)
        chosen = self._chosen(found)
        for _ in range(_DEPTH):
            if chosen.kind not in oci_text.INDEXES:
                break
            kind = chosen.kind
            data = self._blob(chosen)
            found = self._parsed(chosen.path, data, lambda text: oci_text.index(text, kind))  # noqa: B023
            chosen = self._fitting(chosen.path, found)
        if chosen.kind not in oci_text.MANIFESTS:
            found_kind = f"an image of the kind {shown(chosen.kind)}"
            raise Refused("source", self._layout.place(chosen.path), found_kind, "a container's")
        kind = chosen.kind
        manifest = self._parsed(
            chosen.path, self._blob(chosen), lambda text: oci_text.manifest(text, kind)
        )
        self._check_config(manifest)
        return [self._layer(one) for one in manifest.layers]

    def _chosen(self, found: list[Descriptor]) -> Descriptor:
        """The one of index.json that is meant."""
        place = self._layout.place("index.json")
        if self._name is None:
            if len(found) == 1:
                return found[0]
            what = f"{len(found)} images: {_names(found)}"
            raise Refused("source", place, what, "the name of one behind the path, or @NUMBER")
        number = _NUMBER.fullmatch(self._name)
        if number and int(number[1]) < len(found):
            return found[int(number[1])]
        named = [one for one in found if one.name == self._name]
        if not named:
            there = _names(found) or "none"
            raise Refused("source", place, f"no image {self._name}; there are {there}")
        # Of one name there may be one for each machine.
        return named[0] if len(named) == 1 else self._fitting("index.json", named)

    def _fitting(self, name: str, found: list[Descriptor]) -> Descriptor:
        """The first one for the platform, as the image specification has it; with a variant only
        where there is none without. A platform need not be said: of one that is alone with that,
        what is in it says more."""
        for fits in (self._platform.__eq__, self._platform.fits):
            for one in found:
                if one.platform is not None and fits(one.platform):
                    return one
        silent = [one for one in found if one.platform is None]
        if len(silent) == 1:
            self._wanted = self._platform
            return silent[0]
        known = sorted({str(one.platform) for one in found if one.platform is not None})
        there = ", ".join(known[:_SHOWN]) or "none"
        what = f"nothing for {self._platform}; it has {there}"
        raise Refused("source", self._layout.place(name), what, "another --platform")

    def _check_config(self, manifest: oci_text.Manifest) -> None:
        config, count = manifest.config, len(manifest.layers)
        found = self._parsed(
            config.path, self._blob(config), lambda text: oci_text.config(text, count)
        )
        # Many say nothing of a variant.
        wanted = self._wanted
        if wanted and not (wanted if found.variant else wanted.without_variant()).fits(found):
            place = self._layout.place(config.path)
            raise Refused("source", place, f"an image for {found}", str(wanted))

    def _layer(self, about: Descriptor) -> Part:
        return self._part(about)._replace(digest=about.raw)

    def _part(self, about: Descriptor) -> Part:
        part = self._layout.part(about.path)
        if part.size != about.size:
            found = f"a blob of {part.size} bytes"
            raise Refused("source", part.name, found, str(about.size))
        return part

    def _blob(self, about: Descriptor) -> bytes:
        """A text, whose digest is right."""
        part = self._part(about)
        data = self._content(part)
        algorithm = about.digest.partition(":")[0]
        digest = f"{algorithm}:{_cfs.sha(TPM_ALGORITHMS[algorithm], data).hex()}"
        if digest != about.digest:
            raise Refused("source", part.name, f"content with {digest}", about.digest)
        return data

    def _read(self, name: str) -> bytes:
        return self._content(self._layout.part(name))

    def _content(self, part: Part) -> bytes:
        if part.size > oci_text.TEXT_LIMIT:
            found = f"a text of {part.size} bytes"
            raise Refused("source", part.name, found, f"{oci_text.TEXT_LIMIT} at most")
        try:
            return os.pread(part.fd, part.size, part.offset or 0)
        except OSError as error:
            raise system_failure(error, part.name) from None

    def _parsed(self, name: str, data: bytes, parse: Callable[[bytes], _Value]) -> _Value:
        try:
            return parse(data)
        except ValueError as error:
            place = self._layout.place(name)
            raise Refused("source", place, f"not as OCI has it: {error}") from None


def _names(found: list[Descriptor]) -> str:
    names = [
        f"@{at}" + (f" ({shown(one.name)})" if one.name else "")
        for at, one in enumerate(found[:_SHOWN])
    ]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*names, *more])
