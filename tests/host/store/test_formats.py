# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Formats of images: which ones a store's `meta.json` asks for, and that of composefs-rs, byte for
byte as cfsctl has it."""

import _cfs
import _cfshost
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import layers, make_image, metadata
from pyinit.host.store.changes import Changes
from tests.host.store.layered import dumped, written
from tests.host.store.played import Kernel, files
from tests.host.store.test_cfsctl import all_only, cfsctl, needs_cfsctl
from tests.host.store.test_image_peers import IMAGES, _files, _names, make
from tests.host.store.test_layers_peers import bootable_layers

Capture = pytest.CaptureFixture[str]
ROOT = b"/ 0 40755 2 0 0 0 0.0 - - -"
# `cfsctl oci compute-id --bootable` of composefs-ctl 0.9.4, of bootable_layers(), in a repository
# made by `cfsctl init --erofs-version 2`.
BOOTABLE = "adef336f10ec10eac4dfed15feb85381a82b77124372b8a2c43b267cf6f92808"


def in_format_2(text: bytes) -> bytes:
    made = _cfshost.make_image(text, *make_image.RUST)
    make_image.check(made)
    return made


# ---- the format


def test_of_everything_as_cfsctl(tmp_path: Path) -> None:
    """make_images.py had cfsctl make both of one tree. What is said of the first one tells all of
    it; that of the second has the times without nanoseconds, and no whiteout."""
    subprocess.run(["tar", "-C", tmp_path, "-xzf", IMAGES], check=True, timeout=60)
    text = b"\n".join(dumped((tmp_path / "v0").read_bytes()))
    assert in_format_2(text) == (tmp_path / "v2").read_bytes()


def test_of_layers_as_cfsctl(tmp_path: Path) -> None:
    parts = layers.files(written(tmp_path, bootable_layers()))
    made = layers.make(parts, make_image.RUST, lambda _, __: None, Changes(bootable=True))
    make_image.check(made)
    assert make_image.digest(made).hex == BOOTABLE


@all_only
@needs_cfsctl
@pytest.mark.parametrize("algorithm", [_cfs.SHA256, _cfs.SHA512])
@given(made_of=st.dictionaries(_names, _files, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_tree_as_cfsctl(
    tmp_path_factory: pytest.TempPathFactory,
    algorithm: int,
    made_of: dict[bytes, tuple[str, int, dict[str, bytes]]],
) -> None:
    """With names of one file, which a tree that is to boot has as such."""
    place = tmp_path_factory.mktemp("any")
    for name in ("usr", "boot", "sysroot"):
        (place / "root" / name).mkdir(parents=True)
    make(place / "root/usr", made_of)
    asked = ["--no-repo", "--hash", ("sha256", "sha512")[algorithm == _cfs.SHA512]]
    said = cfsctl(place, *asked, "--erofs-version", "2", "compute-id", "--bootable", place / "root")
    made = make_image.make(
        str(place / "root"), *make_image.RUST, changes=Changes(bootable=True), algorithm=algorithm
    )
    assert said.split()[-1] == make_image.digest(made, algorithm).hex
    shutil.rmtree(place)


@pytest.mark.parametrize("versions", [(0, 2), (1, 2), (2, 1), (1, 0), (3, 3)])
def test_formats_that_are_none(versions: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no such version"):
        _cfshost.make_image(ROOT, *versions)


def test_whiteouts_hide_what_they_name() -> None:
    text = ROOT + b"\n/gone 0 20644 1 0 0 0 0.0 - - -\n/there 0 100644 1 0 0 0 0.0 - - -"
    assert [line.split()[0] for line in dumped(in_format_2(text))] == [b"/", b"/there"]


def test_a_link_without_a_place_is_named(tmp_path: Path, capfd: Capture) -> None:
    """It has to lie in one block with the inode. mkcomposefs gives it a block of its own."""
    (tmp_path / "tree/usr/lib").mkdir(parents=True)
    for length, taken in ((4000, True), (4090, False)):
        link = tmp_path / "tree/usr/lib/far"
        link.unlink(missing_ok=True)
        link.symlink_to("/".join(["x" * 99] * 50)[:length])
        place = str(tmp_path / "tree")
        for number in ("1", "2"):
            code = main(["image", "--digest-only", f"--erofs-version={number}", place])
            assert code == (0 if taken or number == "1" else 32)
    said = "no image can be made: /usr/lib/far: a link that is too long for format 2\n"
    assert capfd.readouterr().err.endswith(said)


# ---- what a store asks for


def meta(store: Path, **values: object) -> None:
    content = {"version": 1, "algorithm": "fsverity-sha256-12", **values}
    (store / "meta.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("values", "formats"),
    [
        ({}, (2,)),
        ({"features": {"read-only-compatible": ["v1_erofs"]}}, (1,)),
        ({"features": {"read-only-compatible": ["v1_erofs"]}, "erofs_formats": {"default": 2}},
         (1,)),
        ({"erofs_formats": {"default": 0}}, (0,)),
        ({"erofs_formats": {"default": 1}}, (1,)),
        ({"erofs_formats": {"default": 2}}, (2,)),
        ({"erofs_formats": {"default": 1, "extra": [2, 1, 0, 2]}}, (1, 0, 2)),
        ({"features": {"read-only-compatible": ["v1_erofs"]},
          "erofs_formats": {"default": 2, "extra": [1]}}, (2, 1)),
    ],
)  # fmt: skip
def test_what_meta_json_says(
    store: Path, values: dict[str, object], formats: tuple[int, ...]
) -> None:
    """As composefs-rs reads it, which made the second format where nobody had said a word."""
    meta(store, **values)
    found = metadata.read(store)
    assert found is not None
    assert found.formats == formats


@pytest.mark.parametrize(
    "formats",
    [None, [], 1, {}, {"default": "1"}, {"default": True}, {"default": 1, "extra": 2},
     {"default": 1, "extra": ["2"]}],
)  # fmt: skip
def test_what_says_nothing(store: Path, formats: object, capfd: Capture) -> None:
    meta(store, erofs_formats=formats)
    assert main(["check", str(store)]) == 32
    assert f"refused: store: {store}/meta.json: unreadable (" in capfd.readouterr().err


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr/large").write_bytes(b"l" * 9000)
    (tree / "usr/small").write_bytes(b"s")
    (tree / "link").symlink_to("usr")
    for path in (tree / "usr/large", tree / "usr/small", tree / "usr", tree):
        os.utime(path, ns=(0, 5 * 10**9 + 7))
    return tree


def sources(tree: Path) -> list[list[str]]:
    """A directory, layers and a text of it."""
    text, tar = tree.with_name("text"), tree.with_name("layer.tar")
    text.write_bytes(b"\n".join(dumped(make_image.make(str(tree)))) + b"\n")
    pack = ["tar", "-C", str(tree), "--format=pax", "--numeric-owner", "-cf", str(tar), "."]
    subprocess.run(pack, check=True, timeout=60)
    return [[str(tree)], [str(tar)], [str(text)]]


def image(store: Path, *more: str) -> int:
    return main(["image", "--verity", "off", "--object-store", str(store), *more])


def names(store: Path) -> dict[str, str]:
    refs = store / "images/refs/cfs"
    return {path.name: os.readlink(path).rpartition("/")[2] for path in refs.iterdir()}


def test_all_that_it_asks_for(tree: Path, tmp_path: Path, kernel: Kernel, capfd: Capture) -> None:
    """From each kind of source. The name is that of the first format, and its digest is printed."""
    wanted = {
        number: make_image.digest(make_image.make(str(tree), *versions)).hex
        for number, versions in ((0, (0, 0)), (1, (0, 1)), (2, make_image.RUST))
    }
    for number, source in enumerate(sources(tree)):
        for default, extra in ((2, []), (1, [2]), (2, [0]), (0, [])):
            store = tmp_path / f"store-{number}-{default}-{len(extra)}"
            (store / "objects").mkdir(parents=True)
            meta(store, erofs_formats={"default": default, "extra": extra})
            if number == 2:  # of a text, what it needs has to be there
                assert image(store, str(tree), "--name", "new") == 0
            out = store / "out"
            assert image(store, *source, "--name", "new", "-o", str(out), "--print-digest") == 0
            assert capfd.readouterr().out.splitlines()[-1] == f"sha256:{wanted[default]}"
            assert make_image.digest(out.read_bytes()).hex == wanted[default]
            others = {wanted[one]: wanted[one] for one in extra}
            assert names(store) == {"new": wanted[default], **others}
            assert main(["check", str(store)]) == 0
            capfd.readouterr()


def test_of_a_copy_it_is_the_same(tree: Path, store: Path, kernel: Kernel, capfd: Capture) -> None:
    """The first writer marks whiteouts and what is in overlays; the second one finds none of it."""
    os.mknod(tree / "usr/gone", 0o20644, 0)
    os.setxattr(tree / "usr/small", "trusted.overlay.opaque", b"y")
    (tree / "usr/zagain").hardlink_to(tree / "usr/large")
    for name in ("boot", "sysroot"):
        (tree / name).mkdir()
    changes = Changes(bootable=True)
    meta(store, erofs_formats={"default": 1, "extra": [2]})
    assert image(store, "--bootable", str(tree)) == 0
    wanted = {
        make_image.digest(make_image.make(str(tree), *versions, changes=changes)).hex
        for versions in ((1, 1), make_image.RUST)
    }
    assert names(store).keys() == wanted
    capfd.readouterr()


@pytest.mark.parametrize("formats", [{"default": 3}, {"default": 1, "extra": [-1, 9]}])
def test_a_format_that_is_not_known(
    tree: Path, store: Path, formats: dict[str, object], kernel: Kernel, capfd: Capture
) -> None:
    """Nothing is made then. Who makes no image does not ask."""
    meta(store, erofs_formats=formats)
    for source in sources(tree):
        assert image(store, *source) == 32
        unknown = "3" if formats["default"] == 3 else "-1, 9"
        said = f"refused: store: {store}/meta.json: erofs_formats {unknown}, expected 0, 1 or 2\n"
        assert said in capfd.readouterr().err
    assert list(files(store)) == ["meta.json"]
    large = str(tree / "usr/large")
    assert main(["add", "--verity", "off", "--object-store", str(store), large]) == 0
    assert main(["check", str(store)]) == 0


def test_the_option_says_more_than_the_store(
    tree: Path, store: Path, kernel: Kernel, capfd: Capture
) -> None:
    meta(store, erofs_formats={"default": 2, "extra": [0, 1]})
    for options, versions in (
        (["--erofs-version=1"], (1, 1)), (["--erofs-version=0"], (0, 0)),
        (["--erofs-version=2"], (2, 2)), (["--max-version=0"], (0, 0)),
    ):  # fmt: skip
        shutil.rmtree(store / "images", ignore_errors=True)
        assert image(store, *options, str(tree)) == 0
        wanted = make_image.digest(make_image.make(str(tree), *versions))
        assert list(names(store)) == [wanted.hex]
    capfd.readouterr()


def test_a_new_repository(tree: Path, tmp_path: Path, kernel: Kernel, capfd: Capture) -> None:
    for number in (None, 0, 1, 2):
        store = tmp_path / f"new-{number}"
        options = [] if number is None else [f"--erofs-version={number}"]
        assert image(store, "--create", *options, str(tree)) == 0
        text = (store / "meta.json").read_text()
        assert json.loads(text)["erofs_formats"] == {"default": 1 if number is None else number}
        assert ("v1_erofs" in text) == (number in (None, 1))
    capfd.readouterr()


@all_only
@needs_cfsctl
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_new_repository_is_cfsctls(tmp_path: Path, number: int) -> None:
    asked = ["--erofs-version", str(number), "--algorithm", "fsverity-sha512-12"]
    cfsctl(tmp_path / "theirs", "init", *asked)
    assert metadata.text(_cfs.SHA512, number) == (tmp_path / "theirs/meta.json").read_bytes()


def test_without_a_store(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    for source in sources(tree):
        assert main(["image", "--digest-only", "--erofs-version", "2", *source]) == 0
        digest = make_image.digest(make_image.make(str(tree), *make_image.RUST))
        assert capfd.readouterr().out == f"{digest}\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--erofs-version=2", "--min-version=1"], "--min-version or --max-version is there too"),
        (["--erofs-version=2", "--check-with=/bin/false"], "format 2, and mkcomposefs has 0 and"),
    ],
)
def test_wrong_use(tree: Path, options: list[str], said: str, capfd: Capture) -> None:
    assert main(["image", "--digest-only", *options, str(tree)]) == 1
    assert said in capfd.readouterr().err


def test_a_peer_that_does_not_know_it(
    tree: Path, store: Path, kernel: Kernel, capfd: Capture
) -> None:
    meta(store, erofs_formats={"default": 2, "extra": [1]})
    assert image(store, "--check-with=/bin/false", str(tree)) == 1
    assert "format 2, and mkcomposefs has" in capfd.readouterr().err
    assert list(files(store)) == ["meta.json"]
