# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images of whole roots, made and read: those that composefs has in its own tests, and trees of
Debian, as directories and as container images, against mkcomposefs and cfsctl."""

import _cfs
import _cfshost
import gzip
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import make_image
from pyinit.host.store.changes import Changes
from pyinit.initrd.root.digest import ALGORITHMS
from tests.host.store.containers import LAYER, Layout
from tests.host.store.test_cfsctl import cfsctl, needs_cfsctl
from tests.host.store.test_image_peers import same
from tests.vm import dracut, suites
from tests.vm.apt import Suite
from tests.vm.once import BUILD, locked, made_once
from tests.vm.suites import first_with
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]
all_only = pytest.mark.all_only

# SHA-256 of the image, as composefs' tests/assets have it. Those of one version are of version 0.
PUBLIC = {
    "bigfile-xattr.dump": "5bdb37d78dcf03b4ab1adc9a2d5212d3d95213b41628939f5fe3769f93d927cc",
    "bigfile.dump": "475838479da68b086445eca1f12dd30fc4513f3f88c66b40b58fd70f7495ea27",
    "config-with-hard-link.dump.gz": (
        "d67e775ced030711b36d70d315ddf7150214312fd18b9345f98a5572035a2076"
    ),
    "config.dump.gz": "f93737bda1b19d79c8fe2828615b9dd24e4ec5d97410a1ce6e3716b1a778f00f",
    "cs9-x86_64-developer.dump.gz": (
        "8c61b21852d6abfdd3a7a3da71a5ccb56fae2ad099bebe7d564fcaa842cb9532"
    ),
    "cs9-x86_64-minimal.dump.gz": (
        "a168966c314b0b27c8e25270e6f20838a4736a888e5de97993d15d046c797ba3"
    ),
    "honggfuzz-bigfile-with-acl.dump": (
        "49fcb98c1d331c3f4b414d99d17aac0a6a7e1f8fe7de0d33bbe53064fa55e88b"
    ),
    "honggfuzz-chardev-nonzero-size.dump": (
        "3e7ca8195f29cfd0583ed761c8eead21892ef0ec61d1402aa7f7d84ef8316947"
    ),
    "honggfuzz-long-symlink.dump": (
        "7939aa24a6499de3796792d8ad220138453803ab5f20c96a8c815bf212d44ff7"
    ),
    "honggfuzz-longlink-unterminated.dump": (
        "83857db405498de347043d0e00b9f094c30670ed577e0ef8f6150cf99345abbb"
    ),
    "longlink.dump": "6747c908f88fc6c18626027f204159f3c2a6225b45e4de2f2d5ebf969bf5f24a",
    "no-newline.dump": "99f02c3c63d0c4c14be6f63e87250adafc0e173a12354f50d9ba7cd320deeca7",
    "special.dump": "d344782ff962ab7d1c5533755c19c5bf3c3485f55bfaf228fc89524c7e2ba61e",
}

# Of those that composefs-rs takes: of its format 2, as the library of release 0.9.4 makes it of the
# text (with_digests() for the last three). No program of it does: its mkcomposefs has no format 2.
IN_FORMAT_2 = {
    "bigfile-xattr.dump": "dde8fcb84a7ecae990655b189ad218397744d9c6454d0b8009db94baeac97395",
    "bigfile.dump": "dade3ec1c26e7748a9b60e686be1cb83185942f472e5ec137af2891445c339ee",
    "config-with-hard-link.dump.gz": (
        "332254f219f5acbae6bdb0b040f65f6f03f93432c631257d6b52ebf079c5ac6d"
    ),
    "config.dump.gz": "0b544816f14234390f39a51030028e6acf79d34bfa9e4e002047ec55f0dfc0e2",
    "honggfuzz-bigfile-with-acl.dump": (
        "20e2b8b46ef2a47fa02a96f4dc61ddd9aee0c63f50794514acd260ee4f7a6067"
    ),
    "honggfuzz-chardev-nonzero-size.dump": (
        "6a8e500ccdff89e67411d154bde8d5ce5dc9e2ed0f85e2ab5020887e2b8e89a3"
    ),
    "cs9-x86_64-developer.dump.gz": (
        "40e7c004bde86db7a9b677515e20734affe27122fcc60653ef9d952b19746dfd"
    ),
    "cs9-x86_64-minimal.dump.gz": (
        "5ea91e7d12f3d3686bf4b82e6d5969eb6874b789de9e62061b7b87a62fb67baf"
    ),
    "f36-x86_64-silverblue.dump.gz": (
        "920df916ba6f49546275b35cf12ade2fc948f1ec3e229c32d9c2f946d59ef4ff"
    ),
}


def with_digests(text: bytes) -> bytes:
    """For composefs-rs, which takes no names of ostree: each object has the digest that its name is
    then."""
    name = rb" (..)/([0-9a-f]{62})[.]file - -"
    return re.sub(name, rb" \1/\2 - \1\2", text)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Of the source of Debian's package."""

    def make(directory: Path) -> None:
        suite = first_with("composefs", suites.LATER, Toolbox().offered("composefs")).suite
        place = BUILD / "toolbox" / "apt" / f"{suite}-source"
        with locked(place.with_name(f".{place.name}.lock")):
            archive = Suite(suite, place, kind="deb-src").source("composefs", directory)
        unpack = ["tar", "-C", str(directory), "--strip-components=1", "-xf", str(archive)]
        subprocess.run(unpack, check=True, timeout=600)

    return made_once(BUILD / "vm-cache" / "composefs-source", "1", make) / "tests/assets"


@all_only
def test_public_dumps(assets: Path, toolbox: Toolbox, tmp_path: Path, capfd: Capture) -> None:
    """Each of them, those too that come later: the image, and what is read of it. In format 2
    too."""
    found, others = {}, {}
    for path in sorted(assets.glob("*.sha256")):
        dump = path.with_suffix("")
        if not dump.exists():
            continue
        text, out = tmp_path / "text", tmp_path / "out"
        data = dump.read_bytes()
        text.write_bytes(gzip.decompress(data) if dump.suffix == ".gz" else data)
        version = dump.with_name(f"{dump.name}.version")
        number = version.read_text().strip() if version.exists() else None
        limits = [f"--min-version={number}", f"--max-version={number}"] if number else []
        assert main(["image", *limits, str(text), "-o", str(out)]) == 0, dump.name
        found[dump.name] = hashlib.sha256(out.read_bytes()).hexdigest()
        assert found[dump.name] == path.read_text().strip(), dump.name
        same(toolbox, out)
        if dump.name in IN_FORMAT_2:
            made = _cfshost.make_image(with_digests(text.read_bytes()), *make_image.RUST)
            make_image.check(made)
            others[dump.name] = hashlib.sha256(made).hexdigest()
    assert len(found) >= 14
    assert others == IN_FORMAT_2
    assert PUBLIC.items() <= found.items()
    for path in sorted(assets.glob("should-fail-*.dump")):
        assert main(["image", str(path), "-o", str(tmp_path / "bad")]) == 32, path.name
        assert not (tmp_path / "bad").exists()
    capfd.readouterr()


@pytest.fixture(params=["toolbox", *(pytest.param(role, marks=all_only) for role in
                                     (dracut.OLDEST, dracut.STABLE))])  # fmt: skip
def root(request: pytest.FixtureRequest, toolbox: Toolbox) -> Path:
    """Debian 13's packages, and roots of Debian 12 and 13."""
    if request.param == "toolbox":
        return toolbox.tree
    return dracut.machine(request.param)


def container(root: Path, place: Path) -> Layout:
    """Of two layers by GNU tar: the second one has /usr anew, and takes away what the first has too
    much."""
    layout = Layout(place)
    layout.path.mkdir()
    blobs = []
    for name, extra in ((".", "usr/too-much"), ("./usr", "usr/.wh.too-much")):
        more = place / "more"
        (more / "usr").mkdir(parents=True)
        (more / extra).touch()
        # Each name is a file of its own there too.
        tar = ["tar", "--format=pax", "--xattrs", "--hard-dereference", "--numeric-owner"]
        first = subprocess.run(
            [*tar, "-C", more, "--no-recursion", "-b1", "-cf", "-", "usr", extra],
            capture_output=True, check=True, timeout=600,
        )  # fmt: skip
        whole = subprocess.run(
            [*tar, "-C", root, "-cf", "-", name], capture_output=True, check=True, timeout=600
        )
        shutil.rmtree(more)
        data = first.stdout.rstrip(b"\0")
        data += bytes(-len(data) % 512) + whole.stdout
        blobs.append(layout.blob(f"{LAYER}+gzip", gzip.compress(data, 1)))
    layout.finish([layout.manifest(blobs)])
    return layout


def test_a_root(root: Path, toolbox: Toolbox, tmp_path: Path, capfd: Capture) -> None:
    toolbox.run("mkcomposefs", root, tmp_path / "image")
    theirs = (tmp_path / "image").read_bytes()
    assert make_image.make(str(root)) == theirs
    same(toolbox, tmp_path / "image")
    layout = container(root, tmp_path / "oci")
    assert main(["image", "-q", f"oci:{layout.path}", "-o", str(tmp_path / "ours")]) == 0
    assert (tmp_path / "ours").read_bytes() == theirs
    capfd.readouterr()


@all_only
@needs_cfsctl
@pytest.mark.parametrize("algorithm", [_cfs.SHA256, _cfs.SHA512])
def test_a_root_that_boots(root: Path, tmp_path: Path, capfd: Capture, algorithm: int) -> None:
    """As cfsctl has it, of the directory and of a container's layers: it wants /usr, /boot and
    /sysroot."""
    tree = tmp_path / "tree"
    # Devices too, which nothing is to be read of.
    subprocess.run(["cp", "-a", "--reflink=auto", root, tree], check=True, timeout=600)
    for name in ("usr", "boot", "sysroot"):
        (tree / name).mkdir(exist_ok=True)
    store = tmp_path / "store"
    cfsctl(store, "init", "--algorithm", f"fsverity-{ALGORITHMS[algorithm]}-12")
    said = cfsctl(store, "compute-id", "--bootable", tree)
    changes = Changes(bootable=True)
    made = make_image.make(str(tree), changes=changes, algorithm=algorithm)
    assert said.split()[-1] == make_image.digest(made, algorithm).hex
    source = f"oci:{container(tree, tmp_path / 'oci').path}"
    cfsctl(store, "oci", "pull", source, "x")
    said = cfsctl(store, "oci", "compute-id", "--bootable", "x")
    capfd.readouterr()
    options = ["-q", "--digest-only", "--bootable", "--hash", ALGORITHMS[algorithm]]
    assert main(["image", *options, source]) == 0
    assert capfd.readouterr().out == f"{ALGORITHMS[algorithm]}:{said.split()[-1]}\n"
