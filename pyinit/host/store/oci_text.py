# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The texts of an OCI image layout: bytes in, values out. ValueError: the rule that is broken.

Whoever made an image wrote them. What programs read in different ways is refused: a name twice in
one object, a text that is manifest and index at once.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

TEXT_LIMIT = 4 << 20
"""Of a manifest, as registries have it."""
LAYERS_LIMIT = 500
_IMAGES_LIMIT = 1000
_SIZE_LIMIT = 1 << 53
_SHOWN = 100
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ALGORITHM = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*")

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
_CONFIGS = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
_LAYERS = (
    *(f"{_OCI}layer.v1.tar{end}" for end in ("", "+gzip", "+zstd")),
    *(f"{_DOCKER}image.rootfs.diff.tar{end}" for end in ("", ".gzip", ".zstd")),
)
_ELSEWHERE = (f"{_OCI}layer.nondistributable.", f"{_DOCKER}image.rootfs.foreign.")
_ENCRYPTED = "+encrypted"
_NAME = "org.opencontainers.image.ref.name"


def shown(value: object) -> str:
    """What an image says, in a message: not all of a name of a MB."""
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class Platform(NamedTuple):
    """As Go names them: linux, amd64, and for some machines a variant."""

    system: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        parts = (self.system, self.architecture, self.variant)
        return "/".join(shown(part) for part in parts if part)

    def fits(self, found: Platform) -> bool:
        """Is `found` what is wanted here? Of a variant only where one is named here."""
        same = (self.system, self.architecture) == (found.system, found.architecture)
        return same and self.variant in ("", found.variant)

    @staticmethod
    def parse(text: str) -> Platform:
        """Of os/architecture, or os/architecture/variant."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            _fail(f"no platform: {shown(text)}")
        return Platform(*parts).plain()

    def without_variant(self) -> Platform:
        """Of any variant."""
        return Platform(self.system, self.architecture)

    def plain(self) -> Platform:
        """Without a variant that is the usual one."""
        usual = _USUAL.get(self.architecture)
        if self.architecture in _USUAL and self.variant in ("", usual):
            return self.without_variant()
        return self


_USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
# By the machine's name of uname(2).
_MACHINES = {
    "x86_64": Platform("linux", "amd64"),
    "aarch64": Platform("linux", "arm64"),
    "armv7l": Platform("linux", "arm"),
    "armv6l": Platform("linux", "arm", "v6"),
    "i686": Platform("linux", "386"),
    "loongarch64": Platform("linux", "loong64"),
}


def platform_of(machine: str) -> Platform:
    """Of a machine; those that Go names as Linux does are themselves."""
    return _MACHINES.get(machine) or Platform("linux", machine)


class Descriptor(NamedTuple):
    """How one text names a blob."""

    kind: str
    """Its media type."""
    digest: str
    size: int
    platform: Platform | None = None
    name: str | None = None

    @property
    def path(self) -> str:
        """Where it is in the layout."""
        return "blobs/" + self.digest.replace(":", "/")

    @property
    def raw(self) -> bytes:
        """Its digest."""
        return bytes.fromhex(self.digest.partition(":")[2])


class Manifest(NamedTuple):
    """An image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def layout(data: bytes) -> None:
    """The file `oci-layout`."""
    version = _text(_object(data), "imageLayoutVersion")
    if version.partition(".")[0] != "1":
        _fail(f"version {shown(version)} of the layout")


def index(data: bytes, kind: str = "") -> list[Descriptor]:
    """What an index names, in its order. `kind`: the media type by which it was named."""
    value = _object(data)
    _check_kind(value, kind, INDEXES)
    if "layers" in value or "config" in value:
        _fail("an index that is a manifest too")
    return [_descriptor(one) for one in _list(value, "manifests", _IMAGES_LIMIT)]


def manifest(data: bytes, kind: str) -> Manifest:
    """An image, and each of its layers is of a kind that is read here."""
    value = _object(data)
    _check_kind(value, kind, MANIFESTS)
    if "manifests" in value:
        _fail("a manifest that is an index too")
    config = _descriptor(_member(value, "config", dict))
    if config.kind not in _CONFIGS:
        _fail(f"a configuration of the kind {shown(config.kind)}, which is no container")
    layers = tuple(_descriptor(one) for one in _list(value, "layers", LAYERS_LIMIT))
    if not layers:
        _fail("no layer")
    for layer in layers:
        _check_layer(layer)
    return Manifest(config, layers)


def config(data: bytes, layers: int) -> Platform:
    """What an image is for. It has to have as many layers as the manifest."""
    value = _object(data)
    root = _member(value, "rootfs", dict)
    known = root.get("diff_ids")
    if not isinstance(known, list) or len(known) != layers:
        _fail("rootfs has another number of layers than the manifest")
    return _platform(value)


def _fail(rule: str) -> NoReturn:
    raise ValueError(rule)


def _check_kind(value: dict[str, Any], kind: str, known: tuple[str, ...]) -> None:
    if value.get("schemaVersion") != 2:
        _fail(f"schemaVersion {shown(value.get('schemaVersion'))}, and not 2")
    own = value.get("mediaType", kind or known[0])
    if own not in known:
        _fail(f"the kind {shown(own)}")
    if kind and own != kind:
        _fail(f"the kind {shown(own)}, and it was named as {shown(kind)}")


def _check_layer(layer: Descriptor) -> None:
    if layer.kind.endswith(_ENCRYPTED):
        _fail(f"an encrypted layer: {shown(layer.kind)}")
    if layer.kind.startswith(_ELSEWHERE):
        _fail(f"a layer whose content is elsewhere: {shown(layer.kind)}")
    if layer.kind not in _LAYERS:
        _fail(f"a layer of the kind {shown(layer.kind)}")


def _descriptor(value: Any) -> Descriptor:
    if not isinstance(value, dict):
        _fail("what names a blob is no object")
    digest, size = _text(value, "digest"), _member(value, "size", int)
    if not _DIGEST.fullmatch(digest):
        algorithm = digest.partition(":")[0]
        if _ALGORITHM.fullmatch(algorithm) and algorithm not in ("sha256", "sha512"):
            _fail(f"a digest of {shown(algorithm)}, and not of sha256 or sha512")
        _fail(f"no digest: {shown(digest)}")
    if not 0 <= size <= _SIZE_LIMIT:
        _fail(f"a size of {shown(size)}")
    platform = _platform(value["platform"]) if value.get("platform") is not None else None
    notes = value.get("annotations") or {}
    name = notes.get(_NAME) if isinstance(notes, dict) else None
    return Descriptor(
        _text(value, "mediaType"), digest, size, platform, name if isinstance(name, str) else None
    )


def _platform(value: Any) -> Platform:
    if not isinstance(value, dict):
        _fail("platform is no object")
    variant = value.get("variant", "")
    if not isinstance(variant, str):
        _fail("variant is no text")
    return Platform(_text(value, "os"), _text(value, "architecture"), variant).plain()


def _object(data: bytes) -> dict[str, Any]:
    value: Any = None
    try:
        # As text: of bytes, json guesses the encoding.
        value = json.loads(data.decode(), object_pairs_hook=_pairs, parse_constant=_constant)
    except RecursionError:
        _fail("values that are too deep in each other")
    if not isinstance(value, dict):
        _fail("no object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _fail("an object that has a name twice")
    return value


def _constant(text: str) -> None:
    _fail(f"{text}, which JSON does not have")


def _member(value: dict[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if not isinstance(found, kind) or isinstance(found, bool):
        _fail(f"{name} is not there, or of another type")
    return found


def _text(value: dict[str, Any], name: str) -> str:
    found: str = _member(value, name, str)
    if not found:
        _fail(f"{name} is empty")
    return found


def _list(value: dict[str, Any], name: str, limit: int) -> list[Any]:
    found: list[Any] = _member(value, name, list)
    if len(found) > limit:
        _fail(f"{len(found)} {name}, and not {limit} at most")
    return found
