# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Container images in the layout of OCI, for tests."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinit.host.commands.cfs_store import main
from tests.host.store.layered import tar

TYPE = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
LAYER, CONFIG = f"{TYPE}layer.v1.tar", f"{TYPE}config.v1+json"
MANIFEST, INDEX = f"{TYPE}manifest.v1+json", f"{TYPE}index.v1+json"
NAME = "org.opencontainers.image.ref.name"
AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """One, in the making."""

    path: Path

    def blob(self, kind: str, data: bytes, algorithm: str = "sha256", **more: Any) -> Json:
        """How others name it."""
        digits = hashlib.new(algorithm, data).hexdigest()
        directory = self.path / "blobs" / algorithm
        directory.mkdir(parents=True, exist_ok=True)
        (directory / digits).write_bytes(data)
        return {"mediaType": kind, "digest": f"{algorithm}:{digits}", "size": len(data), **more}

    def text(self, kind: str, value: Any, **more: Any) -> Json:
        return self.blob(kind, json.dumps(value).encode(), **more)

    def manifest(
        self,
        layers: Sequence[Json],
        runs_on: Json = AMD64,
        changes: Json | None = None,
        **more: Any,
    ) -> Json:
        config: Json = {**runs_on, "config": {}, "rootfs": {"type": "layers"}}
        config["rootfs"]["diff_ids"] = [layer["digest"] for layer in layers]
        value = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.text(CONFIG, config), "layers": layers, **(changes or {}),
        }  # fmt: skip
        return self.text(MANIFEST, value, **more)

    def index(self, manifests: Sequence[Json], **more: Any) -> Json:
        value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.text(INDEX, value, **more)

    def finish(self, manifests: Sequence[Json], **more: Any) -> None:
        value = {"schemaVersion": 2, "manifests": manifests, **more}
        (self.path / "index.json").write_text(json.dumps(value))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def archive(self, prefix: str = "") -> bytes:
        """As `tar -C PATH -c .` and Go's archives have it."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for path in sorted(self.path.rglob("*")):
                name = f"{prefix}{path.relative_to(self.path)}"
                tar.add(path, name, recursive=False)
        return out.getvalue()


def one(path: Path, parts: Sequence[bytes], **more: Any) -> Layout:
    """Of one image with these layers, every second one compressed."""
    layout = Layout(path)
    layers = [
        layout.blob(f"{LAYER}+gzip", gzip.compress(part)) if at % 2 else layout.blob(LAYER, part)
        for at, part in enumerate(parts)
    ]
    layout.finish([layout.manifest(layers, **more)])
    return layout


def named(name: str) -> Json:
    """An annotation by which skopeo finds it."""
    return {"annotations": {NAME: name}}


def _layer(text: str) -> bytes:
    content = text.encode() * 99
    return tar([
        ("opt", tarfile.DIRTYPE, {}, b""),
        (f"opt/{text}", tarfile.REGTYPE, {}, content),
        ("opt/last", tarfile.REGTYPE, {}, content),
    ])  # fmt: skip


PARTS = [_layer("a"), _layer("b"), _layer("c")]


def run(*arguments: object) -> int:
    return main(["image", *map(str, arguments)])
