# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images by mkcomposefs, read by `cfs-store` and by composefs-info: both say the same."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.store import image
from tests.host.store.test_image import A, B
from tests.vm.toolbox import Toolbox


def peer(toolbox: Toolbox, verb: str, path: Path) -> bytes:
    done = subprocess.run(
        [*toolbox.command("composefs-info"), verb, path],
        capture_output=True, check=True, timeout=600,
    )  # fmt: skip
    return done.stdout


def ours(verb: str, path: Path) -> bytes:
    pieces: list[bytes] = []
    read = image.read(path)
    if verb == "objects":
        return image.objects([read])[0]
    if verb == "dump":
        read.dump(pieces.append)
    else:
        read.list(None, pieces.append)
    return b"".join(pieces)


def by_name(dump: bytes) -> list[bytes]:
    """Without which of the names of an inode stands for it: composefs-info takes the first."""
    lines = [line.split(b" ") for line in dump.splitlines()]
    payloads = {line[0]: line[8] for line in lines}
    for line in lines:
        if line[2].startswith(b"@"):
            line[2] = line[2][1:]
            line[8] = payloads[line[8]]
    return [b" ".join(line) for line in lines]


def same(toolbox: Toolbox, path: Path) -> None:
    assert ours("objects", path) == peer(toolbox, "objects", path)
    assert by_name(ours("dump", path)) == by_name(peer(toolbox, "dump", path))


def test_a_tree_of_this_machine(toolbox: Toolbox, tmp_path: Path) -> None:
    """Debian's Python: thousands of files, directories of several blocks, links."""
    tree = Path(os.__file__).parent
    path = tmp_path / "tree.cfs"
    toolbox.run("mkcomposefs", f"--digest-store={tmp_path / 'objects'}", tree, path)
    same(toolbox, path)
    assert ours("ls", path) == peer(toolbox, "ls", path)
    assert ours("dump", path).count(b"\n") > 500
    assert image.missing([image.read(path)], tmp_path / "objects")[1] == 0


# Of composefs-dump(5): what a field can be, each escaped.
_byte = st.integers(1, 255)
_name = st.lists(_byte.filter(lambda c: c != 0x2F), min_size=1, max_size=255).map(bytes)
_hex = st.sampled_from([A, B, "fe" * 32])
_xattr = st.tuples(
    st.sampled_from([b"user.", b"trusted.", b"security.", b"trusted.overlay."]),
    st.lists(_byte, min_size=1, max_size=20).map(bytes),
    st.binary(max_size=40),
)
_about = st.tuples(
    st.sampled_from(["file", "inline", "directory", "link", "fifo", "device", "whiteout", "again"]),
    st.integers(0, 0o7777), st.integers(0, 70000), st.integers(-1, 1 << 33),
    st.integers(0, 999_999_999), st.binary(min_size=1, max_size=4200), _hex,
    st.lists(_xattr, max_size=4, unique_by=lambda entry: entry[:2]),
)  # fmt: skip


def escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def line(path: bytes, about: tuple[Any, ...], earlier: list[str]) -> str:
    kind, mode, owner, seconds, nanoseconds, content, digest, xattrs = about
    size, form, rdev, payload, inside, measured = 0, stat.S_IFREG, 0, "-", "-", "-"
    if kind == "again" and earlier:
        return f"{escaped(path)} 0 @120000 1 0 0 0 0.0 {earlier[0]} - -"
    if kind == "file":
        size, payload, measured = len(content) << 20, f"{digest[:2]}/{digest[2:]}", digest
    elif kind == "directory":
        form = stat.S_IFDIR
    elif kind == "link":
        form, payload = stat.S_IFLNK, escaped(content.replace(b"\0", b"0")[:4000])
    elif kind == "fifo":
        form = stat.S_IFIFO
    elif kind in ("device", "whiteout"):
        form, rdev = stat.S_IFCHR, 0x103 if kind == "device" else 0
    else:
        size, inside = len(content), escaped(content)
    if form != stat.S_IFDIR:
        earlier.append(escaped(path))
    told = "".join(f" {escaped(kind + name)}={escaped(value)}" for kind, name, value in xattrs)
    return (
        f"{escaped(path)} {size} {form | mode:o} 1 {owner} {owner} {rdev} "
        f"{seconds}.{nanoseconds} {payload} {inside} {measured}{told}"
    )


@pytest.mark.parametrize("version", [0, 1])
def test_what_mkcomposefs_makes_of_each_kind(
    toolbox: Toolbox, tmp_path: Path, version: int
) -> None:
    """It takes these: what it makes of any dump it may have refused."""
    kinds = ["file", "inline", "directory", "link", "fifo", "device", "whiteout", "again"]
    xattrs = [(b"user.", b"a", b"b"), (b"trusted.overlay.", b"c", b"d")]
    earlier: list[str] = []
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -"]
    for kind in kinds:
        about = (kind, 0o644, 7, 5, 6, b"content", A, xattrs)
        lines.append(line(b"/" + kind.encode(), about, earlier))
    (tmp_path / "dump").write_text("\n".join(lines) + "\n")
    toolbox.run(
        "mkcomposefs", f"--min-version={version}", "--from-file", tmp_path / "dump",
        tmp_path / "image",
    )  # fmt: skip
    same(toolbox, tmp_path / "image")
    assert ours("dump", tmp_path / "image").count(b"\n") == len(lines)


@given(
    entries=st.lists(st.tuples(_name, _about), max_size=12, unique_by=lambda entry: entry[0]),
    version=st.sampled_from([0, 1]),
)
@settings(max_examples=40)
def test_what_mkcomposefs_makes_of_any_dump(
    toolbox: Toolbox,
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[bytes, tuple[Any, ...]]],
    version: int,
) -> None:
    place = tmp_path_factory.mktemp("any")
    earlier: list[str] = []
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -"]
    named = [entry for entry in entries if entry[0] not in (b".", b"..")]
    lines += [line(b"/" + name, about, earlier) for name, about in named]
    (place / "dump").write_text("\n".join(lines) + "\n")
    made = subprocess.run(
        [*toolbox.command("mkcomposefs"), f"--min-version={version}", "--from-file", place / "dump",
         place / "image"],
        capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    if made.returncode == 0:  # it has rules of its own
        same(toolbox, place / "image")
