# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The image in the initrd, by real copies in memory."""

import _cfs
import _cfshost
import errno
import os
from pathlib import Path

import pytest

from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root import embedded
from pyinit.initrd.root.digest import Digest
from tests.initrd.root.test_image import erofs

IMAGE = erofs(flags=0) + b"behind it"
OTHER = Digest(_cfs.SHA256, bytes(32))


def of(data: bytes, algorithm: int = _cfs.SHA256) -> Digest:
    return Digest(algorithm, _cfshost.verity_digest(data, algorithm))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the image is looked for."""
    path = tmp_path / "rootfs.cfs"
    monkeypatch.setattr(embedded, "PATH", str(path))
    return path


def test_an_initrd_without_one(place: Path) -> None:
    assert embedded.take([OTHER]) is None
    place.symlink_to("nowhere")
    assert embedded.take([OTHER]) is None


@pytest.mark.parametrize("algorithm", [_cfs.SHA256, _cfs.SHA512])
def test_it_is_one_of_those_that_are_named(place: Path, algorithm: int) -> None:
    place.write_bytes(IMAGE)
    expected = of(IMAGE, algorithm)
    image = embedded.take([OTHER, expected])
    assert image is not None
    assert (image.digest, image.path, image.verity) == (expected, str(place), "require")
    assert (image.embedded, image.noacl) == (True, True)


def test_with_its_objects(place: Path) -> None:
    """The kernel checks no read then. Objects without their image are no root."""
    with pytest.raises(Refused, match=f"open: {place}: No such file"):
        embedded.take([OTHER], whole=True)
    place.write_bytes(IMAGE)
    image = embedded.take([of(IMAGE)], whole=True)
    assert image is not None
    assert (image.verity, image.embedded) == ("memory", True)


def test_what_is_mounted_is_a_copy_that_nobody_can_change(place: Path) -> None:
    place.write_bytes(IMAGE)
    image = embedded.take([of(IMAGE)])
    assert image is not None
    place.write_bytes(b"something else")
    assert os.pread(image.fd, 8192, 0) == IMAGE
    with pytest.raises(PermissionError):
        os.pwrite(image.fd, b"x", 0)


def test_another_one_is_refused(place: Path) -> None:
    place.write_bytes(IMAGE + b"x")
    with pytest.raises(Refused) as told:
        embedded.take([of(IMAGE), of(b"")])
    assert str(told.value) == (
        f"refused: measure: {place}: {of(IMAGE + b'x')}, expected {of(IMAGE)} or {of(b'')}"
    )


def test_both_algorithms_are_told_where_both_are_asked_for(place: Path) -> None:
    place.write_bytes(IMAGE)
    with pytest.raises(Refused) as told:
        embedded.take([OTHER, of(b"", _cfs.SHA512)])
    assert told.value.found == f"{of(IMAGE)} or {of(IMAGE, _cfs.SHA512)}"


def test_it_is_hashed_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def measure(_fd: int, algorithm: int) -> tuple[int, bytes]:
        hashed.append(algorithm)
        return algorithm, of(IMAGE).value

    monkeypatch.setattr(_cfs, "merkle_digest", measure)
    place.write_bytes(IMAGE)
    assert embedded.take([*(Digest(1, bytes([n]) * 32) for n in range(9)), of(IMAGE)]) is not None
    assert hashed == [_cfs.SHA256]


def test_what_is_no_image(place: Path) -> None:
    place.write_bytes(b"text")
    with pytest.raises(Refused, match=r"refused: erofs: .*too short for an EROFS superblock"):
        embedded.take([of(b"text")])
    place.unlink()
    place.mkdir()
    with pytest.raises(Refused, match=r"refused: open: .*: not a regular file"):
        embedded.take([OTHER])


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (errno.EPERM, SystemFailure, "memfd_create, F_ADD_SEALS: Operation not permitted"),
        (
            errno.ENOSYS,
            Refused,
            "this kernel, or a seccomp filter, has no memfd_create, F_ADD_SEALS",
        ),
        (errno.ENOMEM, SystemFailure, "Cannot allocate memory"),
        (
            errno.ENOSPC,
            Refused,
            "No space left on device .ENOSPC., expected memory for a sealed copy",
        ),
    ],
)
def test_a_copy_that_cannot_be_made_or_sealed(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: int, kind: type, words: str
) -> None:
    def copy(_fd: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(_cfs, "memory_copy", copy)
    place.write_bytes(IMAGE)
    with pytest.raises(kind, match=f"open: {place}: {words}"):
        embedded.take([of(IMAGE)])


def test_only_an_initramfs_is_freed_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.touch()
    embedded.free()
    assert place.exists()
    monkeypatch.setattr(_cfs, "root_is_initramfs", lambda: True)
    embedded.free()
    assert not place.exists()
    embedded.free()
