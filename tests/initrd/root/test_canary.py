# SPDX-License-Identifier: Apache-2.0 OR MIT
import _cfs
import errno
import os
import posix
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root import canary, image
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import UnmeasuredImage, VerifiedImage
from tests.host.store.written import SUPERBLOCK, Node, changed, directory, stored
from tests.host.store.written import image as image_of

Files = dict[str, bytes]
IMAGE = "/store/images/0a"


@contextmanager
def composed(
    path: Path, files: Files, above: Files | None = None
) -> Iterator[tuple[VerifiedImage, int]]:
    """An image with these files in the store, and a directory in place of the overlay above it."""
    root = path / "root"
    root.mkdir()
    for name, content in (files if above is None else above).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (path / "image").write_bytes(image_of(node_of(files)))
    fds = [os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in (path / "image", root)]
    try:
        yield UnmeasuredImage(fds[0], IMAGE, Digest(1, bytes(32))), fds[1]
    finally:
        for fd in fds:
            os.close(fd)


def node_of(files: Files) -> Node:
    """By the first component of their names."""
    below: dict[str, Files] = {}
    entries = []
    for name, content in files.items():
        first, _, rest = name.partition("/")
        if rest:
            below.setdefault(first, {})[rest] = content
        else:
            entries.append((os.fsencode(name), stored("0a" * 32, size=len(content))))
    entries += [(os.fsencode(name), node_of(inner)) for name, inner in below.items()]
    return directory(*entries)


def check(path: Path, files: Files, above: Files | None = None) -> str | None:
    with composed(path, files, above) as (sealed, root):
        return canary.check(sealed, root, "/sysroot")


def refusal(path: Path, files: Files, above: Files | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        check(path, files, above)
    assert caught.value.step == "check"
    return caught.value


def test_an_image_without_content_in_the_store_has_none(tmp_path: Path) -> None:
    assert check(tmp_path, {}) is None


def test_any_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\n \\/\xfe")
    assert check(tmp_path, {name: b"content"}) == name


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 2_500_000])
def test_read_whole_through_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = os.urandom(size)
    read, parts = os.read, []

    def counted(fd: int, length: int) -> bytes:
        parts.append(read(fd, length))
        return parts[-1]

    monkeypatch.setattr(posix, "read", counted)
    assert check(tmp_path, {"usr/file": content}) == "usr/file"
    assert b"".join(parts) == content
    assert parts[-1] == b""


def test_an_object_that_ends_early_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = [b"x" * 999, b""]
    monkeypatch.setattr(posix, "read", lambda fd, length: rest.pop(0))
    error = refusal(tmp_path, {"file": b"x" * 1000})
    assert error.path == "/sysroot/file"
    assert error.found.startswith("999 of 1000 bytes (EIO)")
    assert error.expected == "readable to its end"


@pytest.mark.parametrize(
    ("wants", "error_number", "words"),
    [(True, errno.EPERM, True), (False, errno.EPERM, False), (True, errno.EBADMSG, False)],
)
def test_an_object_without_the_signature_that_the_kernel_wants(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wants: bool,
    error_number: int,
    words: bool,
) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(error_number, os.strerror(error_number))

    monkeypatch.setattr(posix, "read", fail)
    monkeypatch.setattr(image, "wants_signatures", lambda: wants)
    error = refusal(tmp_path, {"usr/file": b"x"})
    assert error.path == "/sysroot/usr/file"
    assert ("signature" in error.found, "require_signatures" in error.expected) == (words, words)
    assert error.found.endswith(f"({errno.errorcode[error_number]})")


def test_a_changed_object_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(posix, "read", fail)
    error = refusal(tmp_path, {"usr/file": b"x"})
    assert error.path == "/sysroot/usr/file"
    assert error.found == ("Input/output error (EIO); the object is changed or has no fs-verity")


def test_a_machine_that_is_short_of_memory_says_nothing_of_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(posix, "read", fail)
    with pytest.raises(SystemFailure, match="check: /sysroot/file: Cannot allocate memory"):
        check(tmp_path, {"file": b"x"})


def test_what_is_not_in_the_root_is_refused(tmp_path: Path) -> None:
    found = refusal(tmp_path, {"file": b"x"}, {}).found
    assert found == "No such file or directory (ENOENT)"


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    """The same image lies below both: a link can only come from elsewhere."""
    with composed(tmp_path, {"file": b"x"}, {}) as (sealed, root):
        os.symlink("/etc/passwd", "file", dir_fd=root)
        with pytest.raises(Refused, match="ELOOP"):
            canary.check(sealed, root, "/sysroot")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an address outside the image (EBADMSG)"),
        (changed(image_of(directory()), SUPERBLOCK + 80, b"\x80"),
         "EROFS features that composefs images do not have (ENOTSUP)"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_searched_is_refused(
    tmp_path: Path, data: bytes, found: str
) -> None:
    with composed(tmp_path, {}) as (sealed, root):
        (tmp_path / "image").write_bytes(data)
        with pytest.raises(Refused) as caught:
            canary.check(sealed, root, "/sysroot")
    assert (caught.value.step, caught.value.path) == ("check", IMAGE)
    assert (caught.value.found, caught.value.expected) == (found, "an image that can be searched")


def test_an_image_that_was_changed_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what the search reads is met first, by fs-verity."""

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_cfs, "image_canary", fail)
    error = refusal(tmp_path, {"file": b"x"})
    assert (error.path, error.expected) == (IMAGE, "its sealed content")
    assert error.found == "its data was changed on the disk, or the disk fails (EIO)"


def test_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with composed(tmp_path, {"file": b"x"}) as (sealed, root):
        before = os.listdir("/proc/self/fd")
        canary.check(sealed, root, "/sysroot")
        monkeypatch.setattr(posix, "read", lambda fd, length: b"")
        with pytest.raises(Refused):
            canary.check(sealed, root, "/sysroot")
        assert os.listdir("/proc/self/fd") == before
