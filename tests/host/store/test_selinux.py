# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image --selinux`: the labels that libselinux gives, or one line and nothing."""

import _cfshost
import ctypes
from pathlib import Path

import pytest

from fuzz import tar_seeds
from pyinit.host.commands.cfs_store import main
from pyinit.host.store import layers, make_image, selinux
from pyinit.host.store.changes import Changes

Capture = pytest.CaptureFixture[str]
CONTEXTS = """
/.*                 system_u:object_r:default_t:s0
/usr(/.*)?          system_u:object_r:usr_t:s0
/usr/bin/.*   --    system_u:object_r:bin_t:s0
/usr/none           <<none>>
/usr/lib      -l    system_u:object_r:lib_t:s0
"""


def has_library() -> bool:
    try:
        ctypes.CDLL(selinux.LIBRARY)
    except OSError:
        return False
    return True


needs_library = pytest.mark.skipif(not has_library(), reason="there is no libselinux here")


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    path = tmp_path / "file_contexts"
    path.write_text(CONTEXTS)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr/bin/sub").mkdir(parents=True)
    (tree / "usr/bin/tool").write_bytes(b"t" * 100)
    (tree / "usr/none").touch()
    (tree / "usr/lib").symlink_to("bin")
    (tree / "etc").mkdir()
    return tree


def given(made: bytes) -> dict[bytes, bytes]:
    """The type of each label, by path."""
    pieces: list[bytes] = []
    _cfshost.Image(made).dump(pieces.append)
    lines = [line.split() for line in b"".join(pieces).splitlines()]
    found = {}
    for line in lines:
        labels = [field for field in line[11:] if field.startswith(b"security.selinux=")]
        assert all(label.endswith(b":s0\\x00") for label in labels)
        found[line[0]] = labels[0].split(b":")[2] if labels else b""
    return found


@needs_library
def test_of_a_directory(tree: Path, contexts: Path) -> None:
    made = make_image.make(str(tree), changes=Changes(contexts=contexts))
    assert given(made) == {
        b"/": b"default_t", b"/etc": b"default_t", b"/usr": b"usr_t", b"/usr/bin": b"usr_t",
        b"/usr/bin/sub": b"usr_t", b"/usr/bin/tool": b"bin_t", b"/usr/lib": b"lib_t",
        b"/usr/none": b"",
    }  # fmt: skip


@needs_library
def test_of_layers(tmp_path: Path, contexts: Path) -> None:
    """What has no label in the policy keeps its own; what has one does not."""
    path = tmp_path / "tar"
    own = (b"SCHILY.xattr.security.selinux", b"system_u:object_r:own_t:s0\0")
    files = (b"usr/none", b"usr/bin/a")
    entries = [tar_seeds.records(own) + tar_seeds.file(name) for name in files]
    path.write_bytes(b"".join(entries) + tar_seeds.END)
    parts = layers.files([str(path)])
    made = layers.make(parts, (0, 1), lambda _, __: None, Changes(contexts=contexts))
    found = given(made)
    assert (found[b"/usr/none"], found[b"/usr/bin/a"]) == (b"own_t", b"bin_t")


@needs_library
def test_bootable(tree: Path, contexts: Path, capfd: Capture) -> None:
    """A policy is no reason to refuse any more."""
    for name in ("etc/selinux", "boot", "sysroot", "var"):
        (tree / name).mkdir()
    (tree / "etc/selinux/config").write_text("SELINUX=enforcing\n")
    assert main(["image", "--bootable", "--digest-only", str(tree)]) == 32
    capfd.readouterr()
    options = ["--bootable", "--selinux", str(contexts), "--digest-only"]
    assert main(["image", *options, str(tree)]) == 0
    assert capfd.readouterr().err == ""


@needs_library
def test_a_file_that_is_none(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "absent"
    assert main(["image", "--selinux", str(path), "--digest-only", str(tree)]) == 32
    said = f"cfs-store: refused: source: {path}: no file with labels: No such file or directory\n"
    assert capfd.readouterr() == ("", said)


def test_without_the_library(
    tree: Path, contexts: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr(selinux, "LIBRARY", "libabsent.so.1")
    assert main(["image", "--selinux", str(contexts), "--digest-only", str(tree)]) == 32
    said = f"source: {contexts}: no file with labels: libabsent.so.1 is not there\n"
    assert capfd.readouterr().err == f"cfs-store: refused: {said}"
