# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` of container images: blobs that are not what they are named, and archives."""

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzz.tar_seeds import END, file, header
from pyinit.host.store import oci
from tests.host.store.containers import (
    PARTS,
    Layout,
    one,
    run,
)
from tests.host.store.layered import tar
from tests.vm.once import REPOSITORY

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("amd64")


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
