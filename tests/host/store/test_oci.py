# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of container images in the layout of OCI: the layers of the one that is meant,
each with the digest by which it is named, or one line and nothing."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinit.host.store import make_image
from tests.host.store.containers import (
    AMD64,
    ARM64,
    DOCKER,
    LAYER,
    PARTS,
    Layout,
    named,
    one,
    run,
)
from tests.host.store.layered import image, tar, written
from tests.host.store.played import Kernel, files
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("amd64")


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


# ---- taken for something else


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
