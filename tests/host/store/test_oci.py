# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of container images in the layout of OCI: the layers of the one that is meant,
each with the digest by which it is named, or one line and nothing."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzz.tar_seeds import END, file, header
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import make_image, oci, oci_text
from pyinit.host.store.oci_text import Platform
from tests.host.store.containers import (
    AMD64,
    ARM64,
    CONFIG,
    DOCKER,
    LAYER,
    MANIFEST,
    TYPE,
    Layout,
    named,
    one,
)
from tests.host.store.layered import image, tar, written
from tests.host.store.played import Kernel, files
from tests.vm.once import REPOSITORY
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main(["image", *map(str, arguments)])


def layer(text: str) -> bytes:
    content = text.encode() * 99
    return tar([
        ("opt", tarfile.DIRTYPE, {}, b""),
        (f"opt/{text}", tarfile.REGTYPE, {}, content),
        ("opt/last", tarfile.REGTYPE, {}, content),
    ])  # fmt: skip


PARTS = [layer("a"), layer("b"), layer("c")]


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "x86_64")))


@pytest.fixture
def digest(tmp_path: Path) -> str:
    return str(make_image.digest(image(written(tmp_path, PARTS))))


def digest_of(*parts: bytes, place: Path) -> str:
    return str(make_image.digest(image(written(place, parts))))


# ---- what is read


@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_layout_and_an_archive(tmp_path: Path, digest: str, capfd: Capture, prefix: str) -> None:
    layout = one(tmp_path / "oci", PARTS)
    archive = tmp_path / "oci.tar"
    archive.write_bytes(layout.archive(prefix))
    for source in (f"oci:{layout.path}", f"oci-archive:{archive}", f"oci:{layout.path}:@0"):
        assert run(source, "--digest-only") == 0
        assert capfd.readouterr() == (f"{digest}\n", "")


def test_into_a_store(tmp_path: Path, digest: str, kernel: Kernel, capfd: Capture) -> None:
    archive, store = tmp_path / "oci.tar", tmp_path / "store"
    archive.write_bytes(one(tmp_path / "oci", PARTS).archive())
    assert run(f"oci-archive:{archive}", "--object-store", store, "--create") == 0
    assert capfd.readouterr().out == f"{digest}\n"
    found = files(store / "objects")
    assert f"{digest[7:9]}/{digest[9:]}" in found
    assert len(kernel.sealed) == len(found) + 1


@pytest.mark.parametrize("kind", [f"{DOCKER}image.rootfs.diff.tar.gzip", f"{LAYER}+gzip"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_kinds_and_algorithms(
    tmp_path: Path, digest: str, capfd: Capture, kind: str, algorithm: str
) -> None:
    layout = Layout(tmp_path / "oci")
    layers = [layout.blob(kind, gzip.compress(part), algorithm) for part in PARTS]
    layout.finish([layout.manifest(layers)])
    assert run(f"oci:{layout.path}", "--digest-only") == 0
    assert capfd.readouterr().out == f"{digest}\n"


def test_chunks_of_zstd(toolbox: Toolbox, tmp_path: Path, digest: str, capfd: Capture) -> None:
    """zstd:chunked has frames, and some that are to be skipped."""
    skipped = b"\x50\x2a\x4d\x18" + (100).to_bytes(4, "little") + b"s" * 100
    layout, layers = Layout(tmp_path / "oci"), []
    for at, part in enumerate(PARTS):
        pieces = []
        for half in (part[:700], part[700:]):
            path = tmp_path / f"half{at}"
            path.write_bytes(half)
            toolbox.run("zstd", "-q", "-f", path)
            pieces.append(path.with_suffix(".zst").read_bytes())
        layers.append(layout.blob(f"{LAYER}+zstd", skipped.join(pieces) + skipped))
    layout.finish([layout.manifest(layers)])
    assert run(f"oci:{layout.path}", "--digest-only") == 0
    assert capfd.readouterr().out == f"{digest}\n"


def test_bootable_by_cfsctl(tmp_path: Path, capfd: Capture) -> None:
    """test_layers_peers.py has what cfsctl says of it."""
    from tests.host.store.test_layers_peers import BOOTABLE, bootable_layers

    layout = one(tmp_path / "oci", bootable_layers())
    assert run(f"oci:{layout.path}", "--bootable", "--digest-only") == 0
    assert capfd.readouterr().out == f"sha256:{BOOTABLE}\n"


# ---- which image


@pytest.fixture
def several(tmp_path: Path) -> Layout:
    """Two images of one machine, and one of two."""
    layout = Layout(tmp_path / "oci")
    a, b, c = (layout.blob(LAYER, part) for part in PARTS)
    both = layout.index([
        layout.manifest([a, b], {"os": "unknown", "architecture": "unknown"},
                        platform={"os": "unknown", "architecture": "unknown"}),
        layout.manifest([b, c], ARM64, platform=ARM64),
        layout.manifest([c], AMD64, platform={**AMD64, "variant": "v3"}),
        layout.manifest([a, c], AMD64, platform=AMD64),
    ], **named("both"))  # fmt: skip
    layout.finish([
        layout.manifest([a], **named("first")),
        layout.manifest([b], **named("docker.io/library/x:tag")),
        both,
        layout.manifest([c]),
    ])  # fmt: skip
    return layout


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("first", [], [0]),
        ("docker.io/library/x:tag", [], [1]),
        ("both", [], [0, 2]),
        ("both", ["--platform", "linux/arm64"], [1, 2]),
        ("both", ["--platform", "linux/arm64/v8"], [1, 2]),
        ("both", ["--platform", "linux/amd64/v3"], [2]),
        ("@2", ["--platform", "linux/amd64"], [0, 2]),
        ("@3", [], [2]),
        ("first", ["--platform", "linux/amd64"], [0]),
    ],
)
def test_the_one_that_is_meant(
    several: Layout, tmp_path: Path, capfd: Capture, name: str, options: list[str], parts: list[int]
) -> None:
    assert run(f"oci:{several.path}:{name}", "--digest-only", *options) == 0
    expected = digest_of(*(PARTS[at] for at in parts), place=tmp_path)
    assert capfd.readouterr().out == f"{expected}\n"


def test_of_one_name_the_one_for_the_machine(tmp_path: Path, capfd: Capture) -> None:
    layout = Layout(tmp_path / "oci")
    a, b, _ = (layout.blob(LAYER, part) for part in PARTS)
    layout.finish([
        layout.manifest([a], ARM64, platform=ARM64, **named("x")),
        layout.manifest([b], AMD64, platform=AMD64, **named("x")),
    ])  # fmt: skip
    assert run(f"oci:{layout.path}:x", "--digest-only") == 0
    assert capfd.readouterr().out == f"{digest_of(PARTS[1], place=tmp_path)}\n"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("", [], "index.json: 4 images: @0 (first), @1 (docker.io/library/x:tag), @2 (both), @3, "),
        ("", [], ", expected the name of one behind the path, or @NUMBER"),
        (":absent", [], "index.json: no image absent; there are @0 (first), "),
        (":@4", [], "index.json: no image @4; there are @0 (first), "),
        (":@01", [], "index.json: no image @01; there are @0 (first), "),
        (":@\u0661", [], "index.json: no image @\\u0661; there are @0 (first), "),
        (":@1000000000", [], "index.json: no image @1000000000; there are @0 (first), "),
        (":both", ["--platform", "linux/s390x"],
         ": nothing for linux/s390x; it has linux/amd64, linux/amd64/v3, linux/arm64, unknown/unk"),
        (":first", ["--platform", "linux/arm64"],
         ": an image for linux/amd64, expected linux/arm64"),
    ],
)  # fmt: skip
def test_none_that_is_meant(
    several: Layout, capfd: Capture, name: str, options: list[str], said: str
) -> None:
    assert run(f"oci:{several.path}{name}", "--digest-only", *options) == 32
    output = capfd.readouterr()
    assert output.err.startswith(f"cfs-store: refused: source: {several.path}/")
    assert said in output.err
    assert (output.out, output.err.count("\n")) == ("", 1)


def test_an_index_that_says_no_platform(tmp_path: Path, capfd: Capture) -> None:
    """An index or an image, which is alone with that; what is in it says more."""
    layout = Layout(tmp_path / "oci")
    a, b, _ = (layout.blob(LAYER, part) for part in PARTS)
    arm, amd = layout.manifest([a], ARM64, platform=ARM64), layout.manifest([b], AMD64)
    inner = layout.index([arm, layout.manifest([b], AMD64, platform=AMD64)])
    for name, found in {
        "index": [layout.index([inner])],
        "beside": [layout.index([arm, inner])],
        "image": [layout.index([arm, amd])],
        "alone": [layout.index([amd])],
        "other": [layout.index([arm, layout.manifest([a], ARM64)])],
        "two": [layout.index([amd, inner])],
        "deep": [layout.index([layout.index([layout.index([inner])])])],
    }.items():
        layout.finish(found)
        code = run(f"oci:{layout.path}", "--digest-only")
        output = capfd.readouterr()
        if name in ("other", "two", "deep"):
            assert code == 32, name
            assert {
                "other": ": an image for linux/arm64, expected linux/amd64",
                "two": ": nothing for linux/amd64; it has none, expected another --platform",
                "deep": ": an image of the kind application/vnd.oci.image.index.v1+json",
            }[name] in output.err
        else:
            assert (code, output.out) == (0, f"{digest_of(PARTS[1], place=tmp_path)}\n"), name


def test_machines() -> None:
    assert str(oci_text.platform_of("aarch64")) == "linux/arm64"
    assert str(oci_text.platform_of("riscv64")) == "linux/riscv64"
    assert Platform.parse("linux/arm/v7") == oci_text.platform_of("armv7l")
    assert str(oci_text.platform_of("armv6l")) == "linux/arm/v6"


# ---- blobs that are not what they are named


def blobs(layout: Layout) -> list[Path]:
    return sorted(layout.path.glob("blobs/sha256/*"))


def test_a_blob_that_differs(tmp_path: Path, store: Path, capfd: Capture) -> None:
    """Wherever that is: whatever else is wrong with it then, its digest is said."""
    layout = one(tmp_path / "oci", PARTS)
    archive = tmp_path / "oci.tar"
    for path in blobs(layout):
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            other = bytearray(whole)
            other[at] ^= 1
            path.write_bytes(other)
            archive.write_bytes(layout.archive())
            found = hashlib.sha256(other).hexdigest()
            said = f"content with sha256:{found}, expected sha256:{path.name}\n"
            for source, place in (
                (f"oci:{layout.path}", f"{path}"),
                (f"oci-archive:{archive}", f"{archive}: blobs/sha256/{path.name}"),
            ):
                assert run(source, "--object-store", store) == 32
                output = capfd.readouterr()
                assert output.err == f"cfs-store: refused: source: {place}: {said}"
        path.write_bytes(whole)
    assert not [path for path in (store / "images").rglob("*") if path.is_symlink()]


def test_a_blob_of_another_size(tmp_path: Path, capfd: Capture) -> None:
    layout = one(tmp_path / "oci", PARTS)
    for path in blobs(layout):
        whole = path.read_bytes()
        for other in (whole + b"x", whole[:-1]):
            path.write_bytes(other)
            assert run(f"oci:{layout.path}", "--digest-only") == 32
            said = f"{path}: a blob of {len(other)} bytes, expected {len(whole)}\n"
            assert capfd.readouterr().err.endswith(said)
        path.write_bytes(whole)


def test_a_blob_that_is_absent_or_no_file(tmp_path: Path, capfd: Capture) -> None:
    layout = one(tmp_path / "oci", PARTS)
    archive = tmp_path / "oci.tar"
    path = blobs(layout)[0]
    aside = tmp_path / "aside"

    def said(source: str, code: int) -> str:
        assert run(source, "--digest-only") == code
        output = capfd.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        return output.err

    path.rename(aside)
    assert f"{path}: No such file or directory" in said(f"oci:{layout.path}", 2)
    archive.write_bytes(layout.archive())
    expected = f"{archive}: blobs/sha256/{path.name}: not in the archive"
    assert expected in said(f"oci-archive:{archive}", 32)
    makes: list[tuple[Callable[[], None], int, str, str]] = [
        (lambda: path.symlink_to(aside), 2, "(ELOOP)", "not a regular file"),
        (lambda: os.mkfifo(path), 32, "not a regular file", "not a regular file"),
        (path.mkdir, 32, "not a regular file", "not in the archive"),
    ]
    for make, code, of_directory, of_archive in makes:
        make()
        before = os.listdir("/proc/self/fd")
        assert of_directory in said(f"oci:{layout.path}", code)
        archive.write_bytes(layout.archive())
        assert of_archive in said(f"oci-archive:{archive}", 32)
        assert len(os.listdir("/proc/self/fd")) == len(before)
        path.rmdir() if path.is_dir() else path.unlink()
    aside.rename(path)
    # A directory on the way that is a link.
    (layout.path / "blobs").rename(aside)
    (layout.path / "blobs").symlink_to(aside)
    before = os.listdir("/proc/self/fd")
    assert "(ENOTDIR)" in said(f"oci:{layout.path}", 2)
    (layout.path / "blobs").unlink()
    (layout.path / "blobs").mkdir()
    (layout.path / "blobs/sha256").symlink_to(aside / "sha256")
    assert "(ENOTDIR)" in said(f"oci:{layout.path}", 2)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_blob_that_shrinks(tmp_path: Path, capfd: Capture, monkeypatch: Any) -> None:
    layout = one(tmp_path / "oci", PARTS)
    path = layout.path / "blobs/sha256" / hashlib.sha256(PARTS[0]).hexdigest()
    part = oci._Image._layer

    def cut(self: Any, about: Any) -> Any:
        found = part(self, about)
        os.truncate(path, 512)
        return found

    monkeypatch.setattr(oci._Image, "_layer", cut)
    assert run(f"oci:{layout.path}", "--digest-only") == 2
    assert f"{path}: No data available (ENODATA)" in capfd.readouterr().err


# ---- texts


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


# ---- archives


def test_an_archive_that_is_none(tmp_path: Path, capfd: Capture) -> None:
    layout, archive = one(tmp_path / "oci", PARTS), tmp_path / "oci.tar"
    whole = layout.archive()
    twice = whole.rstrip(b"\0")
    twice += bytes(-len(twice) % 512) + file(b"index.json") + END
    long = tar([("n" * 5000, tarfile.REGTYPE, {}, b"")])
    many = tar([(f"{at}", tarfile.REGTYPE, {}, b"") for at in range(10_001)])
    for data, said in (
        (gzip.compress(whole), "no OCI archive: a field that is no number"),
        (whole[:3000], "no OCI archive: it ends"),
        (b"", "no OCI archive: it ends without an end, expected a tar file that is not compressed"),
        (tar([]), "oci-layout: not in the archive"),
        (many, "no OCI archive: more members than an archive of blobs has"),
        (long, "no OCI archive: a longer name than a member of an archive of blobs has"),
        (twice, "index.json: twice in the archive"),
    ):
        archive.write_bytes(data)
        assert run(f"oci-archive:{archive}", "--digest-only") == 32, said
        assert said in capfd.readouterr().err
    assert run(f"oci-archive:{layout.path}", "--digest-only") == 32
    assert "not a regular file, expected an OCI archive" in capfd.readouterr().err
    assert run(f"oci-archive:{tmp_path / 'absent'}", "--digest-only") == 2
    assert "absent: No such file" in capfd.readouterr().err


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_an_archive_that_is_taken_for_a_layer(
    tmp_path: Path, capfd: Capture, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(compress(one(tmp_path / "oci", PARTS).archive()))
    assert run(path, "--digest-only") == 32
    said = f"{path}: an OCI archive, and no layer, expected oci-archive:FILE, and not compressed\n"
    assert capfd.readouterr().err.endswith(said)


def test_a_root_with_the_names_of_a_layout(tmp_path: Path, capfd: Capture) -> None:
    """In a container, or in several layers: those are what they were named."""
    names = tar([(name, tarfile.REGTYPE, {}, b"") for name in ("oci-layout", "index.json")])
    parts = [names, tar([("blobs", tarfile.DIRTYPE, {}, b"")])]
    paths = written(tmp_path, parts)
    layout = one(tmp_path / "oci", parts)
    for sources in (paths, [f"oci:{layout.path}"]):
        for options in (
            ["--digest-only"],
            ["--object-store", tmp_path / "store", "--create", "--verity", "off"],
        ):
            assert run(*sources, *options) == 0
            assert capfd.readouterr().out == f"{digest_of(*parts, place=tmp_path)}\n"


def test_what_is_no_image_makes_no_store(tmp_path: Path, capfd: Capture) -> None:
    layout = one(tmp_path / "oci", PARTS)
    for source, code in (
        (f"oci:{layout.path}:absent", 32),
        (f"oci:{tmp_path / 'absent'}", 2),
        (f"oci-archive:{layout.path / 'index.json'}", 32),
        (str(tmp_path / "absent.tar") + " second", 2),
    ):
        store = tmp_path / "store"
        assert run(*source.split(), "--object-store", store, "--create") == code
        assert capfd.readouterr().err.count("\n") == 1
        assert not store.exists()


def test_a_layout_that_is_taken_for_a_root(tmp_path: Path, capfd: Capture) -> None:
    layout = one(tmp_path / "oci", PARTS)
    for options in (["--digest-only"], ["--object-store", tmp_path / "store", "--create"]):
        assert run(layout.path, *options) == 32
        said = f"{layout.path}: an OCI layout, and no root, expected oci:{layout.path}\n"
        assert capfd.readouterr().err.endswith(said)
    assert not (tmp_path / "store").exists()


def test_a_large_blob_is_not_read_to_find_the_next(tmp_path: Path) -> None:
    """A member of 8 TB that has no blocks."""
    path = tmp_path / "sparse"
    size = 1 << 43
    with path.open("wb") as archive:
        archive.write(header(b"large", size=b"\x80" + size.to_bytes(11, "big")))
        archive.seek(size, os.SEEK_CUR)
        archive.write(file(b"small") + END)
    code = "import _cfshost, sys; print(_cfshost.members(sys.stdin.fileno()))"
    with path.open("rb") as archive:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(REPOSITORY / "build/lib")},
            stdin=archive, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    expected = [(b"large", 512, size, True), (b"small", size + 1024, 6, True)]
    assert done.stdout == f"{expected}\n"


# ---- wrong use


def test_wrong_use(tmp_path: Path, capfd: Capture) -> None:
    path = one(tmp_path / "oci", PARTS).path
    for arguments, said in (
        ([f"oci:{path}", path], f"usage: oci:{path}: one of several sources, expected tar files"),
        (["oci:"], "usage: oci:: no path, expected oci:PATH[:NAME]"),
        (["docker://debian"], "usage: docker://debian: an image that is not read here, expected"),
        (["docker-archive:x.tar"], "`skopeo copy docker-archive:x.tar oci:DIR`"),
        ([path, "--platform", "linux/amd64"], "usage: --platform: no container image"),
        ([f"oci:{path}", "--platform", "arm64"], "usage: --platform: arm64, expected OS/"),
    ):
        assert run(*arguments, "--digest-only") == 1
        output = capfd.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert said in output.err
