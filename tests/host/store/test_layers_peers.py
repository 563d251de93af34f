# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Layers: the same images as mkcomposefs makes of what they unpack to, and as composefs-rs."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.store import make_image
from pyinit.host.store.changes import Changes
from pyinit.initrd.report.errors import Refused
from tests.host.store import unpacked
from tests.host.store.layered import Entry, image, tar, written
from tests.vm.toolbox import Toolbox

WHITEOUTS = (b".wh.a", b".wh.d", b".wh..wh..opq")


def peer(toolbox: Toolbox, text: bytes) -> bytes:
    command = [*toolbox.command("mkcomposefs"), "--from-file", "-", "-"]
    done = subprocess.run(command, input=text, capture_output=True, check=True, timeout=600)
    return done.stdout


# Names of directories are few, and seldom those of files: what fits together is likely.
_directory = st.lists(st.sampled_from(["d", "d", "e"]), max_size=2).map(lambda parts: [*parts, ""])
_leaf = st.sampled_from(["a", "b", "..a", "n" * 255, "\udcff\x01", "ä ", "d"])
_path = st.tuples(_directory.map("/".join), _leaf).map("".join)
_kind = st.sampled_from(
    [tarfile.REGTYPE] * 5 + [tarfile.DIRTYPE] * 4 + [tarfile.SYMTYPE, tarfile.LNKTYPE] * 2
    + [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, *WHITEOUTS, *WHITEOUTS]
)  # fmt: skip
_content = st.one_of(
    st.binary(max_size=70), st.integers(0, 300_000).map(lambda size: b"c\0\n" * (size // 3))
)
_pax = st.fixed_dictionaries(
    {},
    optional={
        "mtime": st.sampled_from(["0.5", "-1.25", "-3", "1700000000.123456789", "5.0000000009"]),
        "SCHILY.xattr.user.a": st.sampled_from(["", "v", "a=b\n", "\udcff" * 40]),
        "SCHILY.xattr.security.capability": st.just("\x01\0\0\x02"),
        "comment": st.just("x"),
    },
)
_fields = st.fixed_dictionaries({
    "mode": st.integers(0, 0o7777),
    "uid": st.sampled_from([0, 1000, 65536, 2**21, 2**32 - 1]),
    "gid": st.sampled_from([0, 5, 70000]),
    "mtime": st.sampled_from([0, 1, 1700000000, 2**33, -1]),
    "devmajor": st.sampled_from([0, 1, 8]),
    "devminor": st.sampled_from([0, 3, 255]),
    "linkname": _path,
    "pax_headers": _pax,
})  # fmt: skip
_entry = st.tuples(_path, _kind, _fields, _content)
_layer = st.tuples(st.lists(_entry, max_size=16), st.booleans(), st.booleans())


def entry_of(drawn: tuple[str, bytes, dict[str, Any], bytes], files: list[str]) -> Entry:
    """With a hard link to one of `files`, mostly, to which it adds its own."""
    name, kind, fields, content = drawn
    number, directory = fields["mode"], name.rpartition("/")[0]
    fields = dict(fields)
    if kind in WHITEOUTS:
        name = f"{directory}/{kind.decode()}".lstrip("/")
        kind, content = tarfile.REGTYPE, b""
    elif kind == tarfile.DIRTYPE:
        name = f"{directory}/{name[-1] if number % 9 == 0 else ''}" if directory else "./"
    elif kind == tarfile.LNKTYPE and files and number % 9:
        fields["linkname"] = files[number % len(files)]
    if kind not in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        fields["linkname"] = ""
    if kind != tarfile.DIRTYPE and ".wh." not in name:
        files.append(name)
    name = f"./{name}" if number % 5 == 0 else name
    return name, kind, fields, content if kind == tarfile.REGTYPE else b""


@given(drawn=st.lists(_layer, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_layers(toolbox: Toolbox, tmp_path_factory: Any, drawn: list[Any]) -> None:
    files: list[str] = []
    parts = [tar([entry_of(entry, files) for entry in entries], pax) for entries, pax, _ in drawn]
    place = tmp_path_factory.mktemp("layers")
    compressed = [
        gzip.compress(part) if wanted else part
        for part, (_, _, wanted) in zip(parts, drawn, strict=True)
    ]
    paths = written(place, compressed)
    try:
        tree = unpacked.unpack(parts)
    except unpacked.Refusal:
        with pytest.raises(Refused):
            image(paths)
        return
    assert image(paths) == peer(toolbox, unpacked.dump(tree))


def test_what_gnu_tar_unpacks(toolbox: Toolbox, tmp_path: Path) -> None:
    """Debian's Python, by GNU tar and back: the same image as of the directory."""
    source, there = Path(os.__file__).parent, tmp_path / "tree"
    there.mkdir()
    for form, xattrs in (("pax", "--xattrs"), ("gnu", "--no-xattrs")):
        path = tmp_path / f"{form}.tar.gz"
        pack = ("tar", xattrs, "-C", str(source), "--numeric-owner", f"--format={form}")
        subprocess.run([*pack, "-czf", str(path), "."], check=True, timeout=600)
        times = Changes(latest=0)  # GNU's own format has whole seconds
        assert image([str(path)], times) == make_image.make(str(source), changes=times)
    archive = str(tmp_path / "pax.tar.gz")
    unpack = ["tar", "-C", str(there), "--numeric-owner", "-xpf", archive]
    subprocess.run(unpack, check=True, timeout=600)
    toolbox.run("mkcomposefs", there, tmp_path / "image")
    if os.geteuid() == 0:
        assert image([archive]) == (tmp_path / "image").read_bytes()


# `cfsctl oci compute-id --bootable` of composefs-ctl 0.9.4, of bootable_layers().
BOOTABLE = "e7a184b93afab35864aec6df320f65e0b9a4232a9e45a0c32fb91170c7d1a01e"


def bootable_layers() -> list[bytes]:
    file, directory = tarfile.REGTYPE, tarfile.DIRTYPE
    xattrs = {"SCHILY.xattr.security.capability": "\x01\0\0\x02", "SCHILY.xattr.user.x": "y"}
    lower = tar([
        ("usr/", directory, {"mode": 0o751, "mtime": 7}, b""),
        ("boot/", directory, {"mode": 0o755, "mtime": 9}, b""),
        ("boot/k", file, {}, b"k" * 99),
        ("sysroot/", directory, {"mode": 0o755}, b""),
        ("run/", directory, {"mode": 0o755, "mtime": 2}, b""),
        ("etc/", directory, {"mode": 0o755, "mtime": 3}, b""),
        ("usr/a", file, {"mtime": 5, "pax_headers": {"mtime": "5.25", **xattrs}}, b"a" * 100),
        ("usr/b", tarfile.LNKTYPE, {"linkname": "usr/a"}, b""),
        ("usr/z", tarfile.SYMTYPE, {"linkname": "a", "mode": 0o777}, b""),
        ("usr/small", file, {"uid": 70000}, b"s" * 64),
        ("usr/large", file, {}, bytes(range(256)) * 4096),
        ("usr/gone", file, {}, b"g" * 99),
    ])  # fmt: skip
    upper = tar([
        ("usr/.wh.gone", file, {}, b""),
        ("etc/c", tarfile.LNKTYPE, {"linkname": "usr/a"}, b""),
        ("usr/a", file, {}, b"new" * 50),
        ("run/x", file, {}, b""),
    ])  # fmt: skip
    return [lower, upper]


def pulled(cfsctl: str, place: Path, parts: Sequence[bytes]) -> str:
    """What it makes of an archive with these layers, compressed."""
    blobs = place / "oci/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        about = {"digest": f"sha256:{digest}", "size": len(data)}
        return {"mediaType": f"application/vnd.oci.image.{kind}", **about}

    sums = [f"sha256:{hashlib.sha256(part).hexdigest()}" for part in parts]
    config: dict[str, object] = {"architecture": "amd64", "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": sums}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(part)) for part in parts],
    }
    entry = blob("manifest.v1+json", json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [entry]}
    (place / "oci/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "oci/index.json").write_text(json.dumps(index))
    (place / "repo").mkdir()

    def run(*arguments: object) -> str:
        command = [cfsctl, "--repo", str(place / "repo"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=600)
        return done.stdout

    run("init", "--insecure", "--algorithm", "fsverity-sha256-12")
    run("oci", "pull", f"oci:{place / 'oci'}", "mine")
    return run("oci", "compute-id", "--bootable", "mine").strip()


def test_as_composefs_rs(tmp_path: Path) -> None:
    parts = bootable_layers()
    made = image(written(tmp_path, parts), Changes(bootable=True))
    assert make_image.digest(made).hex == BOOTABLE
    if cfsctl := shutil.which("cfsctl"):
        assert pulled(cfsctl, tmp_path, parts) == BOOTABLE
