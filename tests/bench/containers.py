# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A container image of ten layers into a store, beside `cfsctl oci pull` of the same archive.

The files are those of the toolbox, of Debian's packages. The lowest layer has half of the bytes, as
the layer of a distribution has. cfsctl is looked for in PATH.

Run as a program, whose memory is small: what it has had counts as its children's too.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.bench.store import Action, Fresh, beside, cfs_store, run
from tests.host.store.containers import LAYER, Layout
from tests.vm.toolbox import Toolbox

LAYERS = 10
# What docker, podman and zstd take where nobody says it.
_GZIP_LEVEL, _ZSTD_LEVEL = 6, 3


def figures() -> list[str]:
    """Lines as of store.figures()."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=3600)
    return done.stdout.splitlines()


def _figures() -> list[str]:
    cfsctl = shutil.which("cfsctl")
    lines = []
    with tempfile.TemporaryDirectory() as name:
        for kind in ("gzip", "zstd"):
            place = Path(name, kind)
            with ProcessPoolExecutor(1) as beside_it:
                archive = beside_it.submit(_archive, place, kind).result()
            size = archive.stat().st_size
            store, theirs = Fresh(place, "store"), Fresh(place, "theirs")

            def ours(archive: Path = archive, store: Fresh = store) -> int:
                return cfs_store(
                    "image", "--create", "--verity", "off", "--object-store", store.next(),
                    f"oci-archive:{archive}",
                )  # fmt: skip

            def pull(archive: Path = archive, theirs: Fresh = theirs) -> int:
                command = [str(cfsctl), "--insecure", "--repo", str(theirs.next())]
                run([*command, "init", "--algorithm", "fsverity-sha256-12"])
                return run([*command, "oci", "pull", f"oci-archive:{archive}", "x"])

            peer: Action | None = pull if cfsctl else None
            what = f"image, OCI, {kind}, {size / 1e6:.0f} MB"
            lines.append(beside(what, ours, peer, "cfsctl oci pull"))
    return lines


def _archive(place: Path, kind: str) -> Path:
    """Makes it below `place`."""
    toolbox = Toolbox()
    layout = Layout(place / "oci")
    layers = []
    for names in _split(toolbox.tree):
        layer = subprocess.run(
            ["tar", "--format=pax", "--numeric-owner", "--no-recursion", "-C", toolbox.tree,
             "--null", "-T", "-", "-cf", "-"],
            input=b"\0".join(map(os.fsencode, names)), capture_output=True, check=True, timeout=600,
        ).stdout  # fmt: skip
        layers.append(layout.blob(f"{LAYER}+{kind}", _compressed(toolbox, kind, layer)))
    layout.finish([layout.manifest(layers)])
    archive = place / "oci.tar"
    archive.write_bytes(layout.archive())
    return archive


def _split(tree: Path) -> list[list[Path]]:
    """The names in it, by layers: half of the bytes, and the rest in equal parts."""
    sizes = {name: name.lstat().st_size for name in sorted(tree.rglob("*"))}
    layers: list[list[Path]] = [[] for _ in range(LAYERS)]
    half, done = sum(sizes.values()) / 2, 0
    for name, size in sizes.items():
        upper = int((done - half) / half * (LAYERS - 1)) + 1 if done >= half else 0
        layers[upper].append(name.relative_to(tree))
        done += size
    return layers


def _compressed(toolbox: Toolbox, kind: str, data: bytes) -> bytes:
    if kind == "gzip":
        return gzip.compress(data, _GZIP_LEVEL)
    return subprocess.run(
        [*toolbox.command("zstd"), "-q", f"-{_ZSTD_LEVEL}", "-c"],
        input=data, capture_output=True, check=True, timeout=600,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    print("\n".join(_figures()))
