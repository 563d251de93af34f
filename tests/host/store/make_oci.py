# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes oci.tar.gz anew: a repository as bootc has it, into which cfsctl has pulled two container
images that share a layer, with images that boot; the tag of one is gone.

    python3 make_oci.py CFSCTL

skopeo has to be in PATH; cfsctl pulls by it. Beside the repository lies `collected`: what is left
of it after `cfsctl gc`, a name a line.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TIME = 1_700_000_000
TYPE = "application/vnd.oci.image."
Files = dict[str, bytes | None]
SHARED: Files = {
    "boot": None,
    "sysroot": None,
    "usr": None,
    "usr/lib": None,
    "usr/lib/data": b"data\n" * 100,
    "usr/lib/small": b"small",
}
OWN: dict[str, Files] = {
    "kept": {"etc": None, "etc/hostname": b"kept\n", "usr/lib/kept": b"kept\n" * 500},
    "gone": {"etc": None, "etc/hostname": b"gone\n", "usr/lib/gone": b"gone\n" * 500},
}


def layer(files: Files) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.mtime = TIME
            about.mode = 0o755 if content is None else 0o644
            about.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            about.size = len(content or b"")
            tar.addfile(about, io.BytesIO(content or b""))
    return data.getvalue()


def put(place: Path, kind: str, data: bytes) -> dict[str, object]:
    """A blob of an OCI image layout, and how others name it."""
    digest = hashlib.sha256(data).hexdigest()
    (place / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (place / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": TYPE + kind, "digest": f"sha256:{digest}", "size": len(data)}


def container(place: Path, layers: list[Files]) -> None:
    blobs = [put(place, "layer.v1.tar", layer(files)) for files in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [blob["digest"] for blob in blobs]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{TYPE}manifest.v1+json",
        "config": put(place, "config.v1+json", json.dumps(config).encode()),
        "layers": blobs,
    }
    index = put(place, "manifest.v1+json", json.dumps(manifest).encode())
    text = json.dumps({"schemaVersion": 2, "manifests": [index]})
    (place / "index.json").write_text(text)
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def main(cfsctl: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        repository = work / "composefs"

        def run(*arguments: str, place: Path = repository) -> None:
            subprocess.run([cfsctl, "--repo", place, "--insecure", *arguments], check=True)

        run("init", "--algorithm", "fsverity-sha512-12")
        for tag, own in OWN.items():
            place = work / tag
            container(place, [SHARED, own])
            run("oci", "pull", "--bootable", f"oci:{place}", tag)
        run("oci", "untag", "gone")
        run("fsck")
        run("oci", "fsck")
        left = work / "left"
        shutil.copytree(repository, left, symlinks=True)
        run("gc", place=left)
        names = sorted(
            str(path.relative_to(left))
            for path in left.rglob("*")
            if path.is_symlink() or path.is_file()
        )
        (work / "collected").write_text("\n".join(names) + "\n")
        subprocess.run(
            [
                "tar", "-C", work, "--owner=0", "--group=0", "--numeric-owner", "--sort=name",
                f"--mtime=@{TIME}", "-czf", HERE / "oci.tar.gz", "collected", "composefs",
            ],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
