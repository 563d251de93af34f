# SPDX-License-Identifier: Apache-2.0 OR MIT
"""State on a disk that somebody prepared; with kernels and mounts: tests/vm/state."""

import _cfs
import errno
import os
import posix
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd.kernel.mounting import NODEV, NOSUID
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import area as state_area
from pyinit.initrd.state import copying
from pyinit.initrd.state.area import Area, Entry

GOOD = bytearray(2 << 20)
struct.pack_into("<H", GOOD, 1024 + 0x38, 0xEF53)


class Attached(Exception):
    """A loop device would have been asked for."""


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Area:
    def attach(_fd: int, writable: bool) -> int:
        assert writable
        raise Attached

    monkeypatch.setattr(_cfs, "loop_attach", attach)
    monkeypatch.setattr(_cfs, "filesystem_sync", lambda _: None)
    (tmp_path / "disk").mkdir()
    fd = os.open(tmp_path / "disk", os.O_RDONLY)
    stage = SimpleNamespace(disk=lambda: fd, base=fd, leftovers=None, bring_in=lambda _: None)
    return Area(stage, Config(), "ab" * 32, None)  # type: ignore[arg-type]


@pytest.fixture
def disk(tmp_path: Path, area: Area) -> Path:
    """What `area` has its state on."""
    assert area
    return tmp_path / "disk"


@pytest.fixture
def image(tmp_path: Path) -> int:
    """The directory of an image that state is laid over."""
    (tmp_path / "image").mkdir(0o750)
    (tmp_path / "image" / "file").write_text("the image's")
    return os.open(tmp_path / "image", os.O_RDONLY)


def attach(area: Area, path: Path) -> None:
    area._attach(Entry("/state"), os.open(path, os.O_RDWR))


def test_an_image_file_is_looked_at_before_it_is_attached(area: Area, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(GOOD)
    with pytest.raises(Attached):
        attach(area, image)
    bad = bytearray(GOOD)
    struct.pack_into("<I", bad, 1024 + 0xE4, 0xFE07)
    image.write_bytes(bad)
    with pytest.raises(Refused, match="state: /state: ext4: its journal is on another device"):
        attach(area, image)
    bad = bytearray(GOOD)
    bad[0x10040:0x10048] = b"_BHRfS_M"
    image.write_bytes(bad)
    with pytest.raises(Refused, match="ext4 and btrfs, expected ext4 or btrfs in"):
        attach(area, image)
    image.write_bytes(bytes(len(GOOD)))
    with pytest.raises(Refused, match="no known file system"):
        attach(area, image)


def test_an_image_file_that_nobody_could_fill(
    area: Area, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its size is asked for."""
    image = tmp_path / "image"
    image.write_bytes(GOOD)
    most = 32 << 20
    disk = SimpleNamespace(f_blocks=most // 4096, f_frsize=4096, f_bsize=1)
    monkeypatch.setattr(posix, "fstatvfs", lambda _: disk)
    os.truncate(image, most)
    with pytest.raises(Attached):
        attach(area, image)
    os.truncate(image, most + 1)
    with pytest.raises(
        Refused, match=f"an image file of {most + 1} bytes, expected at most {most}"
    ):
        attach(area, image)
    area._settings.state_grow = most + 1
    with pytest.raises(Attached):
        attach(area, image)


def test_a_transient_directory_is_made_ours_and_what_is_in_it_left_to_others(
    area: Area, disk: Path, image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed before the root is attached."""
    owned: list[str] = []
    own = copying.own

    def note(directory: int, mode: int) -> None:
        owned.append(os.path.basename(os.readlink(f"/proc/self/fd/{directory}")))
        own(directory, mode)

    monkeypatch.setattr(copying, "own", note)
    before = disk / "var.transient" / "earlier"
    before.mkdir(parents=True)
    before.parent.chmod(0o2777)
    entry = area.fresh("/var", image)
    boot = Path(state_area._BOOT_ID).read_text().strip()
    assert entry.path == f"/var.transient/{boot}"
    assert owned == ["var.transient", f"{boot}.cfs-new"]
    assert before.parent.stat().st_mode & 0o7777 == 0o755
    assert before.exists()
    assert area._stage.leftovers is not None
    parent, kept = area._stage.leftovers
    assert (os.path.samestat(os.fstat(parent), before.parent.stat()), kept) == (True, boot)


def test_a_transient_directory_of_this_boot_is_used_again(
    area: Area, disk: Path, image: int
) -> None:
    """By the next root after a soft reboot."""
    first = area.fresh("/var", image)
    (disk / first.path.lstrip("/") / "file").touch()
    again = area.fresh("/var", image)
    assert (first.created, again.created) == (True, False)
    assert os.listdir(again.fd) == ["file"]


def test_a_bind_begins_as_the_images_and_is_kept(area: Area, disk: Path, image: int) -> None:
    made = disk / "state" / ("ab" * 32) / "etc"
    for created, content in ((True, "the image's"), (False, "changed")):
        entry = area.bind("/state/{digest}/etc", image)
        assert (entry.path, entry.kind) == ("/" + str(made.relative_to(disk)), "directory")
        assert os.path.samestat(os.fstat(entry.fd), made.stat())
        assert (entry.created, (made / "file").read_text()) == (created, content)
        (made / "file").write_text("changed")
    assert os.listdir(made.parent) == ["etc"]


def test_layers_look_like_the_images_and_are_kept(area: Area, disk: Path, image: int) -> None:
    state = disk / "state"
    for created in (True, False):
        entry, *layers = area.layers("/state", image)
        assert entry.created == created
        for fd, name in zip(layers, ("upper", "work"), strict=True):
            assert os.path.samestat(os.fstat(fd), (state / name).stat())
            assert os.listdir(fd) == ([] if created else ["file"])
            (state / name / "file").touch()
        assert (state / "upper").stat().st_mode & 0o777 == 0o750
    assert sorted(os.listdir(state)) == ["upper", "work"]


def test_state_that_is_missing_may_be_refused(area: Area, disk: Path, image: int) -> None:
    area._settings.state_missing = "refuse"
    with pytest.raises(Refused, match=r"state: /state: No such .*state-missing=refuse"):
        area.bind("/state", image)
    (disk / "state").mkdir()
    with pytest.raises(Refused, match="state: /state/upper: missing, expected a directory"):
        area.layers("/state", image)
    assert os.listdir(disk / "state") == []


@pytest.mark.parametrize("name", ["state/upper", "state/work", "state", "var.transient/{boot}"])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.symlink_to("/nowhere"), "a symbolic link, and none is followed"),
        (Path.touch, r"Not a directory \(ENOTDIR\)$|no known file system"),
    ],
    ids=["link", "file"],
)
def test_what_somebody_put_in_a_directorys_place(
    area: Area, disk: Path, image: int, name: str, make: Any, found: str
) -> None:
    path = disk / name.format(boot=Path(state_area._BOOT_ID).read_text().strip())
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(Refused, match=f"state: /[a-z.]+: ({found})"):
        area.fresh("/var", image) if "var" in name else area.layers("/state", image)


def _prepare(disk: Path, what: str) -> None:
    state = disk / "state"
    if what == "pipe":
        os.mkfifo(state)
    elif what == "link":
        state.symlink_to("/nowhere")
    elif what in ("upper", "work"):
        state.mkdir()
        (state / what).symlink_to("/nowhere")
    elif what == "foreign file":
        state.write_bytes(bytes(len(GOOD)))
    elif what == "image file":
        state.write_bytes(GOOD)
    elif what == "directory":
        state.mkdir()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("pipe", "state: /state: neither directory nor file"),
        ("link", "state: /state: a symbolic link, and none is followed"),
        ("upper", "state: /state: a symbolic link, and none is followed"),
        ("work", "state: /state: a symbolic link, and none is followed"),
        ("foreign file", "state: /state: no known file system"),
        ("image file", None),
        ("directory", None),
        ("nothing", None),
    ],
)
def test_state_is_looked_at_before_any_is_made(
    area: Area, disk: Path, image: int, what: str, said: str | None
) -> None:
    """And a look makes nothing, attaches nothing, and needs no disk that can be written to."""
    assert image
    area._stage.disk = None  # type: ignore[method-assign,assignment]
    _prepare(disk, what)
    before = sorted(disk.rglob("*"))
    if said is None:
        area.look("/state", ("upper", "work"))
    else:
        with pytest.raises(Refused, match=said):
            area.look("/state", ("upper", "work"))
    assert sorted(disk.rglob("*")) == before
    if what in ("upper", "work"):
        area.look("/state", ())  # a bind: they are files of its own
    if what == "nothing":
        area._settings.state_missing = "refuse"
        with pytest.raises(Refused, match=r"state: /state: No such .*state-missing=refuse"):
            area.look("/state", ())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", None),
        ("directory", None),
        ("this boot's", None),
        ("link", "state: /var.transient: a symbolic link, and none is followed"),
        ("file", r"state: /var.transient: Not a directory \(ENOTDIR\)"),
        ("this boot's link", "state: /var.transient: a symbolic link, and none is followed"),
    ],
)
def test_the_place_of_a_transient_var_is_looked_at_too(
    area: Area, disk: Path, name: str, said: str | None
) -> None:
    area._stage.disk = None  # type: ignore[method-assign,assignment]
    area._settings.state_missing = "refuse"  # it is nobody's state, and made anew
    place = disk / "var.transient"
    own = place / Path(state_area._BOOT_ID).read_text().strip()
    if name == "link":
        place.symlink_to("/")
    elif name == "file":
        place.write_bytes(GOOD)
    elif name != "nothing":
        place.mkdir()
    if name == "this boot's":
        own.mkdir()
    elif name == "this boot's link":
        own.symlink_to("/")
    before = sorted(disk.rglob("*"))
    if said is None:
        area.look_fresh("/var")
    else:
        with pytest.raises(Refused, match=said):
            area.look_fresh("/var")
    assert sorted(disk.rglob("*")) == before


VAR = "/state/deploy/{digest}/var"


@pytest.fixture
def deployment(disk: Path) -> Path:
    """That of the image, with the /var that bootc's deployments share."""
    path = disk / "state/deploy" / ("ab" * 32)
    path.mkdir(parents=True)
    for shared in ("state/os/default/var", "state/os/var", "os/default/var", "state/var"):
        (disk / shared).mkdir(parents=True)
    return path


def test_the_link_of_bootc_is_followed(
    area: Area, disk: Path, image: int, deployment: Path
) -> None:
    shared = disk / "state/os/default/var"
    (deployment / "var").symlink_to("../../os/default/var")
    area.look(VAR, (), linked=True)
    with pytest.raises(Refused, match="a symbolic link, and none is followed"):
        area.look(VAR, ())
    entry = area.bind(VAR, image, linked=True)
    assert (entry.path, entry.created) == ("/state/os/default/var", False)
    assert os.path.samestat(os.fstat(entry.fd), shared.stat())
    with pytest.raises(Refused, match=f"state: {VAR.format(digest='ab' * 32)}: a symbolic link, "):
        area.bind(VAR, image)
    with pytest.raises(Refused, match="a symbolic link, and none is followed"):
        area.layers(VAR, image)


@pytest.mark.parametrize(
    "target",
    [
        *("../../os/default/../../var", "../../os/../var", "../../os/./var", "../../os//var"),
        *("../../os/default", "../../os/default/var/", "../../os/default/var/x", "../os/x/var"),
        *("/state/os/default/var", "../../../os/default/var", "../../../../etc", "../../OS/x/var"),
        *("/../../os/x/var", "../../os/default/Var", "./../os/x/var", "../x/os/x/var", "os", ".."),
    ],
)
def test_no_other_link_is_followed(area: Area, image: int, deployment: Path, target: str) -> None:
    (deployment / "var").symlink_to(target)
    found = re.escape(f"a symbolic link to {target!r}, expected ../../os/NAME/var beneath the")
    with pytest.raises(Refused, match=f"state: /state/deploy/(ab)+/var: {found}"):
        area.bind(VAR, image, linked=True)


@pytest.mark.parametrize("place", ["state/os/default/var", "state/os/default", "state/deploy/x"])
def test_no_link_behind_or_before_it(
    area: Area, disk: Path, image: int, deployment: Path, place: str
) -> None:
    link = disk / place
    if place.endswith("x"):
        link = deployment
    else:
        (deployment / "var").symlink_to("../../os/default/var")
    link.rename(disk / "moved")
    link.symlink_to(disk / "moved")
    with pytest.raises(Refused, match="a symbolic link, and none is followed"):
        area.bind(VAR, image, linked=True)


def test_a_path_that_is_too_short_for_a_link_has_none(area: Area, disk: Path, image: int) -> None:
    """What it leads to is beneath a directory for the state."""
    (disk / "a/b").mkdir(parents=True)
    (disk / "os/x/var").mkdir(parents=True)
    for path in ("/var", "/a/var", "/a/b/var"):
        (disk / path[1:]).symlink_to("../../os/x/var")
        with pytest.raises(Refused, match=f"state: {path}: a symbolic link to"):
            area.bind(path, image, linked=True)


def test_where_bootc_has_no_link_the_directory_counts(
    area: Area, image: int, deployment: Path
) -> None:
    area._settings.state_missing = "refuse"
    with pytest.raises(Refused, match=r"/var: No such .*state-missing=refuse"):
        area.bind(VAR, image, linked=True)
    (deployment / "var").mkdir()
    entry = area.bind(VAR, image, linked=True)
    assert os.path.samestat(os.fstat(entry.fd), (deployment / "var").stat())


def test_what_is_wrong_before_the_link_is_told(area: Area, disk: Path, image: int) -> None:
    """A FIFO there holds nobody up."""
    os.mkfifo(disk / "state")
    for try_it in (area.look, lambda path, _, linked: area.bind(path, image, linked=linked)):
        with pytest.raises(Refused, match=r"state: /state/var: Not a directory \(ENOTDIR\)"):
            try_it("/state/var", (), linked=True)


def test_what_is_no_file_and_no_directory(area: Area, disk: Path, image: int) -> None:
    os.mkfifo(disk / "state")
    with pytest.raises(Refused, match="state: /state: neither directory nor file, expected a"):
        area.bind("/state", image)


def test_a_full_disk_leaves_nothing_half(
    area: Area, disk: Path, image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: str, target: str) -> None:
        Path(target, "half").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(copying, "tree", full)
    with pytest.raises(Refused, match="state: /state: the disk is full: No space left"):
        area.bind("/state", image)
    assert os.listdir(disk) == []


class Kernel:
    """Has loop devices and file systems; keeps what it was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.fails = ""
        self.asked: list[tuple[object, ...]] = []
        self._root = root
        patch.setattr(_cfs, "loop_attach", lambda _fd, _writable: self._answer("loop"))
        patch.setattr(_cfs, "fs_mount", lambda *how: self._answer("mount", how[0], how[2]))
        patch.setattr(_cfs, "filesystem_grow", lambda _fd, size: self._answer("grow", size))

    def _answer(self, *asked: object) -> int:
        if self.fails == asked[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.asked.append(asked)
        return os.open(self._root, os.O_RDONLY)


@pytest.fixture
def kernel(area: Area, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    assert area  # whose own has no loop devices
    (tmp_path / "mounted").mkdir()
    return Kernel(monkeypatch, tmp_path / "mounted")


@pytest.mark.parametrize("grow", [0, 1 << 20, 3 << 20])
def test_an_image_file_is_mounted_and_grown(
    area: Area, disk: Path, image: int, kernel: Kernel, tmp_path: Path, grow: int
) -> None:
    """No device and no set-user-id of it counts. It is never made smaller."""
    loaded: list[tuple[str, str]] = []
    area._modules = SimpleNamespace(load_filesystem=lambda *what: loaded.append(what))  # type: ignore[assignment]
    area._settings.state_grow = grow
    (disk / "state").write_bytes(GOOD)
    entry = area.bind("/state", image)
    assert (entry.kind, entry.created, loaded) == ("image file", False, [("ext4", "state")])
    assert os.path.samestat(os.fstat(entry.fd), (tmp_path / "mounted").stat())
    size = max(grow, len(GOOD))
    assert (disk / "state").stat().st_size == size
    asked: list[tuple[object, ...]] = [("loop",), ("mount", "ext4", NODEV | NOSUID)]
    assert kernel.asked == asked + ([("grow", size)] if grow else [])


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("loop", r"loop device: .*\(EIO\), expected an image file that nobody else has attached"),
        ("mount", r"Input/output error \(EIO\)"),
        ("grow", r"its ext4 cannot be grown to 2097152 bytes: .*\(EIO\)"),
    ],
)
def test_an_image_file_that_the_kernel_does_not_take(
    area: Area, disk: Path, image: int, kernel: Kernel, fails: str, said: str
) -> None:
    area._settings.state_grow = 1
    kernel.fails = fails
    (disk / "state").write_bytes(GOOD)
    with pytest.raises(Refused, match=f"state: /state: {said}"):
        area.bind("/state", image)
