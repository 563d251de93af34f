# SPDX-License-Identifier: Apache-2.0 OR MIT
"""store.c: a digest has one name in a store, and nobody can plant another."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.core.core import Core

# A FIFO that is waited for must not hold the tests; by a thread, since a signal would not get the
# core out of its wait.
pytestmark = pytest.mark.timeout(60, method="thread")

AT_FDCWD = -100
SHA256, SHA512 = 1, 2
OBJECTS, REPOSITORY, OSTREE = 1, 2, 3
VALUE = bytes(range(0xA0, 0xC0))
HEX = VALUE.hex()
OBJECT = f"{HEX[:2]}/{HEX[2:]}"
OTHER = f"{HEX[:2]}/{HEX[2:-1]}0"
CONTENT = b"the image"


class Store:
    """A directory of one layout, and the name of the image in it."""

    def __init__(self, layout: int, root: Path) -> None:
        self.layout = layout
        self.root = root
        self.name = {
            OBJECTS: OBJECT,
            REPOSITORY: f"objects/{OBJECT}",
            OSTREE: f"objects/{OBJECT}.file",
        }[layout]
        self.path.parent.mkdir(parents=True)
        if layout == REPOSITORY:
            (root / "images" / "refs").mkdir(parents=True)
            (root / "meta.json").write_text("{}")
        if layout == OSTREE:
            (root / "config").write_text("[core]\n")
            (root / "refs").mkdir()

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def image(self) -> Path:
        """composefs-rs's link."""
        return self.root / "images" / HEX

    def link(self) -> None:
        self.image.symlink_to(f"../objects/{OBJECT}")


@pytest.fixture(params=[OBJECTS, REPOSITORY, OSTREE], ids=["objects", "repository", "ostree"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path / "store")


@pytest.fixture
def repository(tmp_path: Path) -> Store:
    return Store(REPOSITORY, tmp_path / "store")


def open_store(core: Core, path: Path) -> tuple[int, int]:
    """(result, layout); what was opened is closed."""
    out = core.ffi.new("struct cfs_store *", {"root": -1, "objects": -1})
    result = core.lib.cfs_store_open(AT_FDCWD, os.fsencode(path), out)
    if result == 0:
        assert not os.get_inheritable(out.root)
        assert not os.get_inheritable(out.objects)
        objects = path if out.layout == OBJECTS else path / "objects"
        assert os.path.samestat(os.fstat(out.objects), objects.stat())
        os.close(out.root)
        os.close(out.objects)
    return result, out.layout


def open_image(
    core: Core, path: Path, value: bytes = VALUE, algorithm: int = SHA256
) -> tuple[int, str, bytes]:
    """(0 or -errno, the name tried, content)"""
    out = core.ffi.new("struct cfs_store *")
    assert core.lib.cfs_store_open(AT_FDCWD, os.fsencode(path), out) == 0
    room = core.room(core.lib.CFS_IMAGE_NAME_MAX)
    name = core.ffi.cast("char *", room)
    fd = core.lib.cfs_store_open_image(out, core.digest(algorithm, value), name)
    os.close(out.root)
    os.close(out.objects)
    tried = core.text(name)
    assert tried is not None
    if fd < 0:
        return fd, tried, b""
    with os.fdopen(fd, "rb") as file:
        assert not os.get_inheritable(fd)
        return 0, tried, file.read()


# ---- the store itself


def test_layout(core: Core, store: Store) -> None:
    assert open_store(core, store.root) == (0, store.layout)


@pytest.mark.parametrize("lacks", ["config", "refs"])
def test_half_an_ostree_is_none(core: Core, tmp_path: Path, lacks: str) -> None:
    store = Store(OSTREE, tmp_path / "store")
    (store.root / lacks).rename(store.root / "other")
    assert open_store(core, store.root) == (0, REPOSITORY)


def test_path_may_be_a_link(core: Core, store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.root)
    assert open_store(core, tmp_path / "link") == (0, store.layout)


def test_no_store(core: Core, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    for name, error in (
        ("missing", errno.ENOENT),
        ("file", errno.ENOTDIR),
        ("fifo", errno.ENOTDIR),
        ("loop", errno.ELOOP),
        ("dangling", errno.ENOENT),
    ):
        assert open_store(core, tmp_path / name)[0] == -error
    out = core.ffi.new("struct cfs_store *")
    assert core.lib.cfs_store_open(AT_FDCWD, b"", out) == -errno.ENOENT
    assert core.lib.cfs_store_open(-1, b"store", out) == -errno.EBADF


@pytest.mark.parametrize(
    ("target", "error"),
    [("real", errno.ELOOP), ("/", errno.ELOOP), ("nothing", errno.ELOOP), (None, errno.ENOTDIR)],
)
def test_objects_is_no_directory(
    core: Core, tmp_path: Path, target: str | None, error: int
) -> None:
    """That is no plain objects directory either: it would have no such name."""
    (tmp_path / "real").mkdir()
    if target is None:
        (tmp_path / "objects").touch()
    else:
        (tmp_path / "objects").symlink_to(target)
    assert open_store(core, tmp_path)[0] == -error


def test_objects_missing(core: Core, repository: Store) -> None:
    """A repository without objects is read as an objects directory, where no image has a name."""
    repository.path.parent.rmdir()
    (repository.root / "objects").rmdir()
    (repository.root / "images" / HEX).write_bytes(CONTENT)
    assert open_store(core, repository.root) == (0, OBJECTS)
    assert open_image(core, repository.root)[:2] == (-errno.ENOENT, OBJECT)


DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
PLACE, ITSELF = os.O_PATH | os.O_DIRECTORY, os.O_PATH | os.O_NOFOLLOW
NO_MAGIC, NO_LINK, BENEATH = 0x2, 0x4, 0x8  # RESOLVE_...
WITHIN, WALK = BENEATH | NO_MAGIC, BENEATH | NO_MAGIC | NO_LINK
IMAGE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


def opened(name: str | Path, flags: int, resolve: int) -> str:
    """As account.c writes it."""
    return f"openat2 {name} {flags:#x} {resolve:#x}".replace(" 0x0", " 0")


def test_every_directory_is_opened_within_the_store(core: Core, store: Store) -> None:
    """And a failure is told: no other layout is taken for it."""
    said = core.each_call_fails(lambda: open_store(core, store.root)[0])
    objects = opened("objects", DIRECTORY, WALK)
    others = {
        OBJECTS: [],
        REPOSITORY: [opened("config", ITSELF, WITHIN)],
        OSTREE: [opened("config", ITSELF, WITHIN), opened("refs", ITSELF, WITHIN)],
    }[store.layout]
    assert said == [opened(store.root, DIRECTORY, 0), objects, *others]
    with core.account(2, errno.EDOM) as failing:
        assert open_store(core, store.root)[0] == -errno.EDOM
    assert failing == said[:2]


# ---- the image's name


def test_found(core: Core, store: Store) -> None:
    store.path.write_bytes(CONTENT)
    assert open_image(core, store.root) == (0, store.name, CONTENT)


def test_found_sha512(core: Core, store: Store) -> None:
    value = bytes(range(64))
    name = store.name.replace(OBJECT, f"00/{value.hex()[2:]}")
    (store.root / name).parent.mkdir()
    (store.root / name).write_bytes(CONTENT)
    assert open_image(core, store.root, value, SHA512) == (0, name, CONTENT)


def test_hard_link(core: Core, store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    store.path.hardlink_to(tmp_path / "elsewhere")
    assert open_image(core, store.root) == (0, store.name, CONTENT)


def test_link_of_composefs_rs(core: Core, repository: Store) -> None:
    repository.path.write_bytes(CONTENT)
    repository.link()
    assert open_image(core, repository.root) == (0, f"images/{HEX}", CONTENT)


def test_image_that_is_no_link(core: Core, repository: Store) -> None:
    repository.image.write_bytes(CONTENT)
    assert open_image(core, repository.root) == (0, f"images/{HEX}", CONTENT)


def test_link_inside_the_store(core: Core, store: Store) -> None:
    """It will be measured like any other."""
    (store.path.parent / OTHER.split("/")[1]).write_bytes(CONTENT)
    store.path.symlink_to(OTHER.split("/")[1])
    assert open_image(core, store.root) == (0, store.name, CONTENT)


@pytest.mark.parametrize("absolute", [True, False])
def test_link_out_of_the_store(core: Core, store: Store, tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "outside").write_bytes(CONTENT)
    target = tmp_path / "outside"
    store.path.symlink_to(target if absolute else os.path.relpath(target, store.path.parent))
    assert open_image(core, store.root)[:2] == (-errno.EXDEV, store.name)


def test_absolute_link_into_the_store(core: Core, store: Store) -> None:
    (store.root / "file").write_bytes(CONTENT)
    store.path.symlink_to(store.root / "file")
    assert open_image(core, store.root)[0] == -errno.EXDEV


def test_magic_link(core: Core, store: Store, tmp_path: Path) -> None:
    store.path.symlink_to("/proc/self/exe")
    assert open_image(core, store.root)[0] == -errno.EXDEV


def test_dangling_link(core: Core, store: Store) -> None:
    store.path.symlink_to("nothing")
    assert open_image(core, store.root)[:2] == (-errno.EBADF, store.name)


def test_dangling_image_does_not_fall_back(core: Core, repository: Store) -> None:
    """The name is there: what it says counts, whatever else there is."""
    repository.path.write_bytes(CONTENT)
    repository.image.symlink_to("../objects/00/00")
    assert open_image(core, repository.root)[:2] == (-errno.EBADF, f"images/{HEX}")


def test_broken_image_does_not_fall_back(core: Core, repository: Store) -> None:
    repository.path.write_bytes(CONTENT)
    repository.image.mkdir()
    assert open_image(core, repository.root)[:2] == (-errno.EINVAL, f"images/{HEX}")


def test_link_loop(core: Core, store: Store) -> None:
    name = store.path.name
    (store.path.parent / "b").symlink_to(name)
    store.path.symlink_to("b")
    assert open_image(core, store.root)[:2] == (-errno.ELOOP, store.name)


def _socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


@pytest.mark.parametrize(
    "make", [os.mkfifo, _socket, Path.mkdir], ids=["fifo", "socket", "directory"]
)
def test_no_regular_file(core: Core, store: Store, make: Callable[[Path], None]) -> None:
    make(store.path)
    assert open_image(core, store.root)[:2] == (-errno.EINVAL, store.name)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/ptmx"])
def test_device(core: Core, store: Store, device: str) -> None:
    status = os.stat(device)
    try:
        os.mknod(store.path, status.st_mode, status.st_rdev)
    except PermissionError:
        pytest.skip("only root makes device nodes")
    assert open_image(core, store.root)[:2] == (-errno.EINVAL, store.name)


# ---- names that are not the digest's


def test_absent(core: Core, store: Store) -> None:
    assert open_image(core, store.root)[:2] == (-errno.ENOENT, store.name)


def test_prefix_directory_absent(core: Core, store: Store) -> None:
    store.path.parent.rmdir()
    assert open_image(core, store.root)[:2] == (-errno.ENOENT, store.name)


def test_aliases_are_never_tried(core: Core, repository: Store) -> None:
    """Every other place where a file of the digest's name could lie."""
    root = repository.root
    for name in (
        f"images/refs/{HEX}",
        f"images/{HEX}.cfs",
        f"images/{OBJECT}",
        HEX,
        OBJECT,
        f"objects/{HEX}",
        f"objects/{OBJECT}.file",
        f"objects/{HEX[:2]}/{HEX}",
        f"images/sha256:{HEX}",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CONTENT)
    assert open_image(core, root)[:2] == (-errno.ENOENT, repository.name)


def test_names_of_other_layouts(core: Core, store: Store) -> None:
    for name in (OBJECT, f"objects/{OBJECT}", f"objects/{OBJECT}.file"):
        if name != store.name and (store.layout != OBJECTS or "objects" not in name):
            (store.root / name).parent.mkdir(parents=True, exist_ok=True)
            (store.root / name).write_bytes(CONTENT)
    assert open_image(core, store.root)[:2] == (-errno.ENOENT, store.name)


@pytest.mark.parametrize("parent", ["images", "objects/" + HEX[:2]])
def test_directory_on_the_way_is_a_link(core: Core, repository: Store, parent: str) -> None:
    """images -> images/refs would turn every alias into a name."""
    root = repository.root
    repository.path.write_bytes(CONTENT)
    (root / parent).rename(root / "real")
    (root / "real" / HEX).write_bytes(CONTENT)
    (root / parent).symlink_to("real" if parent == "images" else "../real")
    assert open_image(core, root)[0] == -errno.ELOOP


@pytest.mark.parametrize(("algorithm", "size"), [(0, 0), (SHA256, 0), (SHA512, 32), (SHA256, 64)])
def test_no_digest(core: Core, store: Store, algorithm: int, size: int) -> None:
    store.path.write_bytes(CONTENT)
    assert open_image(core, store.root, bytes(size), algorithm) == (-errno.EINVAL, "", b"")


@pytest.fixture
def find(core: Core, store: Store) -> Iterator[Callable[[], int]]:
    """Opens the image: 0 or -errno."""
    out = core.ffi.new("struct cfs_store *")
    assert core.lib.cfs_store_open(AT_FDCWD, os.fsencode(store.root), out) == 0
    name = core.ffi.new("char[]", core.lib.CFS_IMAGE_NAME_MAX)
    digest = core.digest(SHA256, VALUE)

    def find() -> int:
        fd: int = core.lib.cfs_store_open_image(out, digest, name)
        if fd >= 0:
            os.close(fd)
        return min(fd, 0)

    yield find
    os.close(out.root)
    os.close(out.objects)


def test_every_name_is_opened_within_the_store(
    core: Core, store: Store, find: Callable[[], int]
) -> None:
    store.path.write_bytes(CONTENT)
    with core.account() as said:
        assert find() == 0
    assert said[-2:] == [
        opened(Path(store.name).parent, PLACE, WALK),
        opened(store.name, IMAGE, WITHIN),
    ]
    with core.account(len(said), errno.EDOM):
        assert find() == -errno.EDOM
    with core.account(0, errno.EDOM):
        core.lib.account_no_stat = 1
        assert find() == -errno.EDOM


def test_a_name_that_cannot_be_looked_at(core: Core, find: Callable[[], int]) -> None:
    """It is not absent: no other name is tried."""
    with core.account() as said:
        assert find() == -errno.ENOENT
    for number, call in enumerate(said, 1):
        with core.account(number, errno.EDOM):
            result = find()
        # what asks why a name cannot be opened finds no other reason then
        why = call.endswith(f" {os.O_PATH:#x} {WITHIN:#x}")
        assert result == -(errno.ENOENT if why else errno.EDOM)


# ---- an image outside of a store


def test_image_open(core: Core, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to("image")
    os.mkfifo(tmp_path / "fifo")
    _socket(tmp_path / "socket")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for name in (b"image", b"link"):
            fd = core.lib.cfs_image_open(directory, name)
            assert fd >= 0
            assert not os.get_inheritable(fd)
            os.close(fd)
        for name in (b"fifo", b"socket", b"."):
            assert core.lib.cfs_image_open(directory, name) == -errno.EINVAL
        assert core.lib.cfs_image_open(directory, b"none") == -errno.ENOENT
        assert core.lib.cfs_image_open(directory, b"") == -errno.ENOENT
    finally:
        os.close(directory)
