# SPDX-License-Identifier: Apache-2.0 OR MIT
import _cfs
import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

import pyinit.initrd
from pyinit.initrd.report.errors import CfsError, Refused, SystemFailure
from pyinit.initrd.root import image
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, Store, UnmeasuredImage, VerifiedImage, open_file
from tests.initrd.harness import digests

D = Digest(1, b"\xd1" * 32)
OTHER = Digest(1, b"\xd1" * 31 + b"\xd2")
FAN = f"{D.hex[:2]}/{D.hex[2:]}"

LAYOUTS: dict[str, tuple[tuple[str, ...], str]] = {
    "objects": ((), FAN),
    "repository, by its name": (("objects", "images"), f"images/{D.hex}"),
    "repository, as an object": (("objects", "images"), f"objects/{FAN}"),
    "ostree": (("objects", "refs", "config"), f"objects/{FAN}.file"),
}


def store_at(path: Path, layout: str) -> tuple[Path, Path]:
    """An empty store, and where its image belongs."""
    directories, name = LAYOUTS[layout]
    store = path / "store"
    store.mkdir()
    for directory in directories:
        (store / directory).mkdir()
    (store / name).parent.mkdir(parents=True, exist_ok=True)
    return store, store / name


def erofs(flags: int | None = None, magic: int = 0xE0F5E1E2, version: int = 1) -> bytes:
    """The first 4096 bytes of an image; `flags` of the header of mkcomposefs, or none of it."""
    data = bytearray(4096)
    if flags is not None:
        data[:16] = struct.pack("<4I", 0xD078629A, version, flags, 0)
    struct.pack_into("<I", data, 1024, magic)
    data[1024 + 12] = 12
    struct.pack_into("<I", data, 1024 + 36, 1)
    return bytes(data)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    """What the kernel would measure; an OSError where the list is empty."""
    found = [D]
    monkeypatch.setattr(_cfs, "verity_measure", lambda fd: found[0].pair)
    return found


def verified(path: Path, data: bytes, digest: Digest = D) -> VerifiedImage:
    path.write_bytes(data)
    return VerifiedImage(open_file(str(path)), str(path), digest)


# ---- the store -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_image_by_its_own_name(tmp_path: Path, layout: str) -> None:
    path, name = store_at(tmp_path, layout)
    name.write_bytes(b"the image")
    store = Store(str(path))
    fd, shown = store.open_image(D)
    assert shown == str(name)
    assert os.read(fd, 100) == b"the image"
    assert not os.get_inheritable(fd)
    objects = path if layout == "objects" else path / "objects"
    assert os.fstat(store.objects).st_ino == objects.stat().st_ino


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_other_name_is_tried(tmp_path: Path, layout: str) -> None:
    path, name = store_at(tmp_path, layout)
    for alias in (
        path / D.hex,
        path / "images" / "refs" / D.hex,
        path / "images" / D.hex.upper(),
        path / f"sha256:{D.hex}",
        name.with_name(name.name + "x"),
        name.with_name(name.name.removesuffix(".file") + ".img"),
    ):
        alias.parent.mkdir(parents=True, exist_ok=True)
        alias.write_bytes(b"planted")
    with pytest.raises(ImageMissing) as caught:
        Store(str(path)).open_image(D)
    assert caught.value.step == "open"
    assert caught.value.expected == f"image {D}"
    assert D.hex[2:] in caught.value.path
    assert "ENOENT" in caught.value.found


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # an address has 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def outside(path: Path) -> None:
    store = next(parent for parent in path.parents if parent.name == "store")
    (store.parent / "outside").write_bytes(erofs())
    path.symlink_to(os.path.relpath(store.parent / "outside", path.parent))


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (Path.mkdir, "not a regular file: "),
        (fifo, "not a regular file: "),
        (a_socket, "not a regular file: "),
        (outside, "a link that leads out of the store: "),
        (lambda path: path.symlink_to("/etc/passwd"), "a link that leads out of the store: "),
        (lambda path: path.symlink_to("absent"), "a dangling link: "),
        (lambda path: path.symlink_to(path.name), "a link loop, or a link where none is followed"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_and_wrong_is_not_missing(
    tmp_path: Path, layout: str, plant: Callable[[Path], None], words: str
) -> None:
    path, name = store_at(tmp_path, layout)
    plant(name)
    with pytest.raises(Refused) as caught:
        Store(str(path)).open_image(D)
    assert not isinstance(caught.value, ImageMissing)
    assert (caught.value.step, caught.value.path) == ("open", str(name))
    assert caught.value.found.startswith(words)


def test_a_link_to_the_object_is_followed(tmp_path: Path) -> None:
    path, name = store_at(tmp_path, "repository, by its name")
    real = path / "objects" / FAN
    real.parent.mkdir()
    real.write_bytes(b"the image")
    name.symlink_to(f"../objects/{FAN}")
    fd, _ = Store(str(path)).open_image(D)
    assert os.read(fd, 100) == b"the image"


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    path, name = store_at(tmp_path, "objects")
    name.write_bytes(b"the image")
    name.parent.rename(path / "moved")
    name.parent.symlink_to("moved")
    with pytest.raises(Refused, match="a link where none is followed") as caught:
        Store(str(path)).open_image(D)
    assert not isinstance(caught.value, ImageMissing)


def test_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name, words in (("absent", "ENOENT"), ("file", "ENOTDIR")):
        with pytest.raises(Refused, match=words) as caught:
            Store(str(tmp_path / name))
        assert (caught.value.step, caught.value.expected) == ("store", "an object store")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_system_lacks_is_no_fault_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path, _ = store_at(tmp_path, "objects")
    store = Store(str(path))

    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    attempts: dict[str, tuple[str, Callable[[], object]]] = {
        "store_open": ("/s", lambda: Store("/s")),
        "store_open_image": (f"{path}/{D.hex}", lambda: store.open_image(D)),
        "image_open": ("/i", lambda: open_file("/i")),
        "verity_measure": ("/i", lambda: VerifiedImage(-1, "/i", D)),
        "image_header": ("/i", lambda: UnmeasuredImage(-1, "/i", D)),
    }
    for name, (where, attempt) in attempts.items():
        monkeypatch.setattr(_cfs, name, fail)
        with pytest.raises(SystemFailure, match=errno.errorcode[number]) as caught:
            attempt()
        assert caught.value.path == where


def test_a_sealed_file_on_a_kernel_without_verity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a kernel opens no file that has it, and it is a regular file all the same."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(_cfs, "image_open", refuse)
    with pytest.raises(Refused, match="this kernel has no fs-verity") as caught:
        open_file("/i")
    assert (caught.value.step, caught.value.expected) == ("open", "a kernel with CONFIG_FS_VERITY")


@pytest.mark.parametrize(
    ("sysctl", "number", "verdict"),
    [
        ("1\n", errno.EPERM, "refused"),
        ("1\n", errno.ENFILE, "error"),
        ("0\n", errno.EPERM, "error"),
        ("", errno.EPERM, "error"),
        (None, errno.EPERM, "error"),
    ],
)
def test_a_kernel_that_wants_signatures(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sysctl: str | None,
    number: int,
    verdict: str,
) -> None:
    """It opens no sealed file without one, and says no more than EPERM."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    if sysctl is not None:
        (tmp_path / "sysctl").write_text(sysctl)
    monkeypatch.setattr(image, "_SIGNATURES", str(tmp_path / "sysctl"))
    monkeypatch.setattr(_cfs, "image_open", refuse)
    with pytest.raises(CfsError) as caught:
        open_file("/i")
    words = (
        "sealed without a signature of the kernel's: Operation not permitted (EPERM), expected 0"
    )
    assert str(caught.value).startswith(f"{verdict}: open: /i: ")
    assert (words in str(caught.value)) == (verdict == "refused")


def test_a_file_outside_a_store(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ENOENT") as caught:
        open_file(str(tmp_path / "absent"))
    assert not isinstance(caught.value, ImageMissing)
    fifo(tmp_path / "fifo")
    for name in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(Refused, match=r"open: .*not a regular file: "):
            open_file(str(name))


# ---- measuring -----------------------------------------------------------------------------------


def test_a_file_without_verity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        verified(tmp_path / "image", erofs())
    assert (caught.value.step, caught.value.path) == ("measure", str(tmp_path / "image"))
    assert caught.value.expected == str(D)
    # Which of them depends on the file system that the tests run on.
    assert caught.value.found.startswith(
        ("no fs-verity on this file (ENODATA)", "this kernel or file system has no fs-verity: ")
    )


def test_a_file_system_without_verity_is_named_as_the_reason() -> None:
    fd = os.memfd_create("image", os.MFD_CLOEXEC)  # tmpfs, which has none
    os.write(fd, erofs())
    try:
        with pytest.raises(Refused, match=r"measure: memfd: .*has no fs-verity: .*(ENOTTY|NOTSUP)"):
            VerifiedImage(fd, "memfd", D)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENODATA, "no fs-verity on this file (ENODATA)"),
        (errno.ENOTTY, "this kernel or file system has no fs-verity: "),
        (errno.EOPNOTSUPP, "this kernel or file system has no fs-verity: "),
        (errno.EPROTONOSUPPORT, "measured by another algorithm than SHA-256 or SHA-512"),
        (errno.EIO, "Input/output error (EIO)"),
        (errno.EBADF, "Bad file descriptor (EBADF)"),
    ],
)
def test_each_fault_of_measuring_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_cfs, "verity_measure", fail)
    with pytest.raises(Refused) as caught:
        verified(tmp_path / "image", erofs())
    assert caught.value.step == "measure"
    assert caught.value.found.startswith(words)


def test_the_right_digest(tmp_path: Path, measured: list[Digest]) -> None:
    found = verified(tmp_path / "image", erofs())
    assert (found.digest, found.path, found.verity) == (D, str(tmp_path / "image"), "require")
    assert os.fstat(found.fd).st_size == 4096


@pytest.mark.parametrize("wrong", [OTHER, Digest(2, b"\xd1" * 64)])
def test_another_digest(tmp_path: Path, measured: list[Digest], wrong: Digest) -> None:
    measured[0] = wrong
    with pytest.raises(Refused) as caught:
        verified(tmp_path / "image", erofs())
    assert (caught.value.step, caught.value.found) == ("measure", str(wrong))
    assert caught.value.expected == str(D)


@given(digests, digests)
def test_only_the_same_digest_is_verified(kernel: Digest, wanted: Digest) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cfs, "verity_measure", lambda fd: kernel.pair)
        VerifiedImage.check(-1, "x", kernel)
        if kernel.pair != wanted.pair:
            with pytest.raises(Refused, match="measure"):
                VerifiedImage.check(-1, "x", wanted)


def test_measured_before_anything_is_read(
    tmp_path: Path, measured: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise AssertionError("read before it was measured")

    measured[0] = OTHER
    monkeypatch.setattr(_cfs, "image_header", fail)
    with pytest.raises(Refused, match="measure"):
        verified(tmp_path / "image", erofs())


def test_data_that_verity_refuses_is_said_so(
    tmp_path: Path, measured: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_cfs, "image_header", fail)
    with pytest.raises(Refused, match="changed on the disk, or the disk fails"):
        verified(tmp_path / "image", erofs())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "too short for an EROFS superblock"),
        (erofs()[:1024], "too short for an EROFS superblock"),
        (erofs(magic=0xE0F5E1E3), "no EROFS superblock"),
        (b"\0" * 4096, "no EROFS superblock"),
        (erofs(0, version=2), "a composefs header of an unknown version"),
    ],
)
def test_no_image_with_a_fitting_digest(
    tmp_path: Path, measured: list[Digest], data: bytes, words: str
) -> None:
    with pytest.raises(Refused) as caught:
        verified(tmp_path / "image", data)
    assert (caught.value.step, caught.value.found) == ("erofs", words)
    assert caught.value.expected == "an EROFS image"


# Only mkcomposefs says whether there are ACLs; where nobody says it, they stay on.
@pytest.mark.parametrize(("flags", "noacl"), [(None, False), (0, True), (1, False), (3, False)])
def test_acls(tmp_path: Path, measured: list[Digest], flags: int | None, noacl: bool) -> None:
    assert verified(tmp_path / "image", erofs(flags)).noacl is noacl


def test_verity_off_takes_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(erofs(0))
    found = UnmeasuredImage(open_file(str(path)), str(path), D)
    assert (found.verity, found.noacl) == ("off", True)
    path.write_bytes(b"")
    with pytest.raises(Refused, match="erofs: "):
        UnmeasuredImage(open_file(str(path)), str(path), D)


def test_only_cfs_mount_can_leave_the_check_out() -> None:
    sources = Path(next(iter(pyinit.initrd.__path__))).rglob("*.py")
    users = {path.stem for path in sources if "UnmeasuredImage" in path.read_text()}
    assert users == {"image", "mount_command"}
    assert image.UnmeasuredImage.__subclasses__() == []
