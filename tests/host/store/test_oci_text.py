# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of container images: texts of a layout that are not as OCI has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyinit.host.store import oci_text
from pyinit.host.store.oci_text import Platform
from tests.host.store.containers import (
    AMD64,
    CONFIG,
    DOCKER,
    LAYER,
    MANIFEST,
    PARTS,
    TYPE,
    Layout,
    named,
    run,
)

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("amd64")


def manifest_with(**changes: Any) -> Callable[[Layout], None]:
    def make(layout: Layout) -> None:
        layout.finish([layout.manifest([layout.blob(LAYER, PARTS[0])], changes=changes)])

    return make


def layer_with(**changes: Any) -> Callable[[Layout], None]:
    def make(layout: Layout) -> None:
        layout.finish([layout.manifest([{**layout.blob(LAYER, PARTS[0]), **changes}])])

    return make


def index_with(text: str) -> Callable[[Layout], None]:
    def make(layout: Layout) -> None:
        layout.finish([])
        (layout.path / "index.json").write_text(text)

    return make


def with_bytes(data: bytes) -> Callable[[Layout], None]:
    def make(layout: Layout) -> None:
        layout.finish([])
        (layout.path / "index.json").write_bytes(data)

    return make


def version(layout: Layout) -> None:
    layout.finish([])
    (layout.path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')


def nested(layout: Layout) -> None:
    about = layout.manifest([layout.blob(LAYER, PARTS[0])], platform=AMD64)
    for _ in range(4):
        about = layout.index([about], platform=AMD64)
    layout.finish([about])


def named_otherwise(layout: Layout) -> None:
    """A manifest that is named as an index."""
    about = layout.manifest([layout.blob(LAYER, PARTS[0])])
    layout.finish([{**about, "mediaType": f"{TYPE}index.v1+json"}])


def both(layout: Layout) -> None:
    about = layout.manifest([layout.blob(LAYER, PARTS[0])], changes={"manifests": []})
    layout.finish([about])


def more_layers(layout: Layout) -> None:
    config = {**AMD64, "rootfs": {"diff_ids": ["sha256:" + "0" * 64] * 2}}
    about = layout.text(CONFIG, config)
    layout.finish([layout.manifest([layout.blob(LAYER, PARTS[0])], changes={"config": about})])


LONG = "x" * 100_000


def for_long(layout: Layout) -> None:
    platform = {"os": LONG, "architecture": LONG, "variant": LONG}
    about = layout.manifest([layout.blob(LAYER, PARTS[0])], platform=platform)
    layout.finish([layout.index([about, layout.manifest([], platform=platform)])])


def named_long(layout: Layout) -> None:
    about = layout.manifest([layout.blob(LAYER, PARTS[0])], **named("\033[2J\ud800\n" + LONG))
    layout.finish([about, about])


ZEROS = "sha256:" + "0" * 64
INDEX = '{"schemaVersion": 2, "manifests": %s}'
ENTRY = '{"mediaType": "%s", "digest": "%s", "size": %s}'


def entry(digest: str, size: str = "1", kind: str = MANIFEST) -> Callable[[Layout], None]:
    return index_with(INDEX % f"[{ENTRY % (kind, digest, size)}]")


TEXTS: dict[str, Callable[[Layout], None]] = {
    "index.json: not as OCI has it: no object": index_with("[]"),
    "index.json: not as OCI has it: Expecting": index_with("{"),
    "index.json: not as OCI has it: 'utf-8' codec": with_bytes(b"\xff\xfe{\0}\0"),
    "index.json: not as OCI has it: NaN, which JSON does not have": index_with('{"a": NaN}'),
    "values that are too deep in each other": index_with('{"a":' + "[" * 100_000),
    "an object that has a name twice": index_with('{"manifests": [], "manifests": []}'),
    "index.json: a text of 4194305 bytes, expected 4194304 at most": with_bytes(b" " * (4194305)),
    "schemaVersion None, and not 2": index_with("{}"),
    "schemaVersion 1, and not 2": index_with('{"schemaVersion": 1, "manifests": []}'),
    "manifests is not there, or of another type": index_with('{"schemaVersion": 2}'),
    "1001 manifests, and not 1000 at most": index_with(INDEX % json.dumps([0] * 1001)),
    "what names a blob is no object": index_with(INDEX % "[1]"),
    "0 images: , expected": index_with(INDEX % "[]"),
    "an index that is a manifest too": index_with(
        '{"schemaVersion": 2, "manifests": [], "layers": []}'
    ),
    "a manifest that is an index too": both,
    "no digest: sha256:../../../etc/shadow": entry("sha256:../../../etc/shadow"),
    f"no digest: sha256:{'A' * 64}": entry("sha256:" + "A" * 64),
    "no digest: sha256:0": entry("sha256:0"),
    "no digest: ../x": entry("../x"),
    "a digest of md5, and not of sha256 or sha512": entry("md5:" + "0" * 32),
    "a digest of blake3, and not of sha256 or sha512": entry("blake3:" + "0" * 64),
    "a size of -1": entry(ZEROS, "-1"),
    "a size of 9007199254740993": entry(ZEROS, "9007199254740993"),
    "size is not there, or of another type": entry(ZEROS, "true"),
    "Exceeds the limit": entry(ZEROS, "9" * 5000),
    "mediaType is empty": entry(ZEROS, kind=""),
    f"{'0' * 64}: No such file or directory": entry(ZEROS),
    "an image of the kind text/x, expected a container's": entry(ZEROS, kind="text/x"),
    "an image of the kind application/vnd.oci.image.index.v1+json": nested,
    "the kind application/vnd.oci.image.manifest.v1+json": named_otherwise,
    "version 2.0.0 of the layout": version,
    "a configuration of the kind text/x, which is no container": manifest_with(
        config=json.loads(ENTRY % ("text/x", ZEROS, 1))
    ),
    "no layer": manifest_with(layers=[]),
    "501 layers, and not 500 at most": manifest_with(layers=[0] * 501),
    "layers is not there, or of another type": manifest_with(layers={}),
    "rootfs has another number of layers than the manifest": more_layers,
    f"an encrypted layer: {LAYER}+gzip+encrypted": layer_with(mediaType=f"{LAYER}+gzip+encrypted"),
    f"a layer whose content is elsewhere: {TYPE}layer.nondistributable.v1.tar": layer_with(
        mediaType=f"{TYPE}layer.nondistributable.v1.tar"
    ),
    f"a layer whose content is elsewhere: {DOCKER}image.rootfs.foreign.diff.tar.gzip": layer_with(
        mediaType=f"{DOCKER}image.rootfs.foreign.diff.tar.gzip", urls=["https://example.com/x"]
    ),
    # Of a name of a MB, and of one with control characters, not all is said.
    f"a configuration of the kind {'x' * 100}..., which": manifest_with(
        config=json.loads(ENTRY % (LONG, ZEROS, 1))
    ),
    f"an image of the kind {'x' * 100}..., expected": entry(ZEROS, kind=LONG),
    f"a layer of the kind {'x' * 100}..., ".rstrip(", "): layer_with(mediaType=LONG),
    f"an encrypted layer: {'x' * 100}...": layer_with(mediaType=LONG + "+encrypted"),
    f"a digest of {'x' * 100}..., and not": entry(LONG + ":0"),
    f"a size of {'9' * 100}...": entry(ZEROS, "9" * 4000),
    f"it has {'x' * 100}.../{'x' * 100}.../{'x' * 100}..., expected": for_long,
    f"@0 (\\x1b[2J\\ud800\\n{'x' * 94}...), @1 (": named_long,
    f"a layer of the kind {LAYER}+xz": layer_with(mediaType=f"{LAYER}+xz"),
    "a layer of the kind application/vnd.wasm": layer_with(mediaType="application/vnd.wasm"),
}  # fmt: skip


@pytest.mark.parametrize("said", TEXTS)
def test_a_text_that_is_refused(tmp_path: Path, capfd: Capture, said: str) -> None:
    layout = Layout(tmp_path / "oci")
    layout.path.mkdir()
    TEXTS[said](layout)
    is_lacking = said.endswith("No such file or directory")
    assert run(f"oci:{layout.path}", "--digest-only") == (2 if is_lacking else 32)
    output = capfd.readouterr()
    assert said in output.err
    verdict = "error" if is_lacking else "refused"
    assert output.err.startswith(f"cfs-store: {verdict}: source: {layout.path}")
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert len(output.err) < 1000


@pytest.mark.parametrize("value", [1, [], "x", {"os": 1}, {"os": "linux"}])
def test_platforms_of_other_types(value: Any) -> None:
    text = json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": ZEROS, "size": 1, "platform": value}
    ]}).encode()  # fmt: skip
    with pytest.raises(ValueError, match=r"platform|os|architecture"):
        oci_text.index(text)


def test_machines() -> None:
    assert str(oci_text.platform_of("aarch64")) == "linux/arm64"
    assert str(oci_text.platform_of("riscv64")) == "linux/riscv64"
    assert Platform.parse("linux/arm/v7") == oci_text.platform_of("armv7l")
    assert str(oci_text.platform_of("armv6l")) == "linux/arm/v6"
