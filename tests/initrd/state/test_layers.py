# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How state is mounted: every attribute that the kernel is told, every option that is read back.
The mounts themselves, made by kernels, are in tests/vm/test_state.py."""

import _cfs
import errno
import os
import posix
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd.kernel import mountinfo, selinux
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import copying, layers
from pyinit.initrd.state.area import Entry
from tests.initrd.harness import opens

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
STACKED = "rw,redirect_dir=nofollow,index=off"
DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Kernel:
    """Mounts nothing, and keeps with which attributes each mount would have been made."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self.made: list[tuple[str, int, int]] = []
        self.cloned: list[int] = []
        self.attached: list[int] = []
        self.overlays: list[tuple[Any, ...]] = []
        self.takes_layers = False
        self._path = path
        self._clone = 0

        def clone(fd: int, _recursive: bool) -> int:
            self.cloned.append(fd)
            self._clone = self._new()
            return self._clone

        def set_attributes(mount: int, add: int, clear: int, _recursive: bool) -> None:
            assert mount == self._clone
            self.made.append(("clone", add, clear))

        def overlay(_source: str, *rest: Any) -> int:
            # The lower directory and the objects, upper and work, verity=require, attributes; then
            # the names of upper and work, for mountinfo, where they are the disk's; strict.
            strict = rest[8:] == (True,)
            if strict and not self.takes_layers:
                raise OSError(errno.EINVAL, "conflicting options: metacopy=off,verity=require")
            self.overlays.append(rest)
            self.made.append(("overlay", rest[5], 0))
            disks = rest[2] >= 0 and (strict or rest[1] < 0)
            assert rest[6:8] == (tuple(map(existing.name, rest[2:4])) if disks else (None, None))
            return self._new()

        def fs(kind: str, _options: object, attributes: int) -> int:
            self.made.append((kind, attributes, 0))
            return self._new()

        patch.setattr(_cfs, "mount_clone", clone)
        patch.setattr(_cfs, "mount_set", set_attributes)
        patch.setattr(_cfs, "overlay_mount", overlay)
        patch.setattr(_cfs, "fs_mount", fs)
        patch.setattr(existing, "paths", lambda two: tuple(map(existing.name, two)))
        patch.setattr(_cfs, "mount_attach", lambda _, at: self.attached.append(at))
        patch.setattr(mountinfo, "PATH", str(path / "mountinfo"))
        patch.setattr(mountinfo, "mount_id", lambda _fd: 77)
        self.shows(STACKED)

    def _new(self) -> int:
        """Whatever is done in a mount is done in a directory of the test's."""
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)

    def shows(self, options: str) -> None:
        line = f"77 1 0:40 / /mnt rw - overlay cfs-etc {options}\n"
        (self._path / "mountinfo").write_text(line)

    def shows_nothing(self) -> None:
        (self._path / "mountinfo").write_text("")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    return Kernel(monkeypatch, tmp_path)


class Area:
    """State that is there: the directory itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.linked: list[bool] = []
        self.looked: list[object] = []

    def _entry(self, path: str) -> Entry:
        entry = Entry(path)
        entry.fd = self._fd
        return entry

    def bind(self, _template: str, _image: int, linked: bool = False) -> Entry:
        self.linked.append(linked)
        return self._entry("/state")

    def look(self, *what: object) -> None:
        self.looked.append(what)

    def look_fresh(self, template: str) -> None:
        self.looked.append(template)

    def fresh(self, _template: str, _image: int) -> Entry:
        return self._entry("/fresh")

    def layers(self, template: str, image: int) -> tuple[Entry, int, int]:
        return self.bind(template, image), self._fd, self._fd


@pytest.fixture
def root(tmp_path: Path) -> Any:
    for name in ("etc", "var", "sysroot"):
        (tmp_path / name).mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    digest = SimpleNamespace(hex="ab" * 32)
    image = SimpleNamespace(digest=digest, verity="require")
    return SimpleNamespace(mount=fd, lower=fd, objects=fd, image=image)


def over(root: Any, **values: str) -> layers.State:
    settings = Config()
    for name, value in values.items():
        setattr(settings, name, value)
    stage = SimpleNamespace(base=root.mount, bring_in=lambda _: None, disk=lambda: root.mount)
    made = layers.State(stage, root, settings)  # type: ignore[arg-type]
    made._area = Area(root.mount)  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("mode", "is_on", "there", "expected"),
    [
        ("transient", True, "directory", 1),
        ("transient", False, "directory", 0),
        ("transient", True, "nothing", 0),
        ("transient", True, "link", 0),
        ("transient", True, "file", 0),
        ("sealed", True, "directory", 0),
        ("transient-ro", True, "directory", 1),
        ("transient-ro", False, "directory", 0),
    ],
)
def test_usr_is_bound_on_itself_where_systemd_would_copy_it(
    kernel: Kernel, root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    mode: str, is_on: bool, there: str, expected: int,
) -> None:  # fmt: skip
    """As it is: no attribute of the mount is changed, and what is bound is what lies there."""
    usr = tmp_path / "usr"
    if there == "directory":
        usr.mkdir()
    elif there == "link":
        usr.symlink_to("etc")
    elif there == "file":
        usr.touch()
    monkeypatch.setattr(selinux, "is_on", lambda: is_on)
    settings = Config()
    settings.root = mode
    layers.bind_usr(root, settings)
    assert len(kernel.cloned) == expected
    assert kernel.attached == kernel.cloned
    assert kernel.made == []
    for fd in kernel.cloned:
        assert os.fstat(fd).st_ino == usr.stat().st_ino


@pytest.mark.parametrize(
    ("module", "call"), [(_cfs, "mount_clone"), (_cfs, "mount_attach"), (posix, "open")]
)
def test_a_usr_that_cannot_be_bound_is_refused(
    kernel: Kernel,
    root: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    call: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "no")

    (tmp_path / "usr").mkdir()
    monkeypatch.setattr(selinux, "is_on", lambda: True)
    monkeypatch.setattr(module, call, fail)
    settings = Config()
    settings.root = "transient"
    with pytest.raises(Refused, match="refused: state: /usr: no"):
        layers.bind_usr(root, settings)


@pytest.mark.parametrize("mode", ["bind", "transient-disk", "overlay", "transient"])
def test_nothing_over_the_root_has_devices_or_set_user_id(
    kernel: Kernel, root: Any, mode: str
) -> None:
    """Who writes the disk has no program in it that runs as root, and no device."""
    state = over(root, var=mode)
    assert state.var() == {"transient": "tmpfs"}.get(mode, mode)
    kind = {"overlay": "overlay", "transient": "tmpfs"}.get(mode, "clone")
    assert kernel.made == [(kind, NOSUID | NODEV, 0)]
    path = "/fresh" if mode == "transient-disk" else "/state"
    place = {"path": path, "kind": "directory", "created": False}
    assert state.places == ({} if mode == "transient" else {"var": place})


@pytest.mark.parametrize("profile", ["none", "bootc"])
def test_a_link_is_followed_for_var_on_a_disk_of_bootc(
    kernel: Kernel, root: Any, profile: str
) -> None:
    state = over(root, profile=profile, etc="bind", var="bind")
    assert (state.etc(), state.var()) == ("bind", "bind")
    assert state._area.linked == [False, profile == "bootc"]  # type: ignore[attr-defined]
    assert kernel


@pytest.mark.parametrize(
    ("profile", "etc", "var", "looked"),
    [
        ("none", "overlay", "bind", [("/e", ("upper", "work"), False), ("/v", (), False)]),
        ("bootc", "bind", "bind", [("/e", (), False), ("/v", (), True)]),
        ("bootc", "bind", "overlay", [("/e", (), False), ("/v", ("upper", "work"), False)]),
        ("none", "overlay", "transient-disk", [("/e", ("upper", "work"), False), "/v"]),
        ("none", "transient", "transient-disk", ["/v"]),
        ("none", "none", "none", []),
    ],
)
def test_what_lies_on_the_disk_is_looked_at_first(
    kernel: Kernel, root: Any, profile: str, etc: str, var: str, looked: list[object]
) -> None:
    state = over(root, profile=profile, etc=etc, var=var, state_etc="/e", state_var="/v")
    state.look()
    assert state._area.looked == looked  # type: ignore[attr-defined]
    assert kernel.made == []


def test_a_directory_that_the_image_lacks_is_missed_before_anything_is_made(
    kernel: Kernel, root: Any, tmp_path: Path
) -> None:
    assert kernel
    (tmp_path / "var").rmdir()
    with pytest.raises(Refused, match=r"state: /var: No such .*a directory in the image"):
        over(root, etc="overlay", var="bind").look()


def test_nothing_is_laid_over_the_root_where_none_is_asked_for(kernel: Kernel, root: Any) -> None:
    state = over(root, etc="none", var="none")
    assert (state.etc(), state.var()) == ("none", "none")
    assert (kernel.made, kernel.attached, state.places) == ([], [], {})


def test_a_transient_etc(kernel: Kernel, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "attributes", lambda *_: None)
    kernel.shows("rw,verity=require")
    with opens() as seen:
        assert over(root, etc="transient").etc() == "transient"
    assert [seen[name] for name in ("etc", "upper", "work")] == [DIRECTORY] * 3
    assert kernel.made == [("tmpfs", NOSUID | NODEV, 0), ("overlay", NOSUID | NODEV, 0)]
    for name in ("upper", "work"):
        os.rmdir(f"/proc/self/fd/{root.mount}/{name}")
    kernel.shows("rw")
    with pytest.raises(Refused, match=r"check: /etc: mount options 'rw', expected verity=require"):
        over(root, etc="transient").etc()


def test_a_writable_root_has_its_changes_in_memory(
    kernel: Kernel, root: Any, tmp_path: Path
) -> None:
    """And looks like the image's."""
    stage = SimpleNamespace(bring_in=lambda _: None)
    settings = Config()
    assert layers.root_layers(stage, settings) is None  # type: ignore[arg-type]
    settings.root = "transient"
    made = layers.root_layers(stage, settings)  # type: ignore[arg-type]
    assert made is not None
    tmp_path.chmod(0o710)
    for fd, name in zip(made(root.mount), ("upper", "work"), strict=True):
        assert os.path.samestat(os.fstat(fd), (tmp_path / name).stat())
    assert (tmp_path / "upper").stat().st_mode & 0o7777 == 0o710
    assert kernel.made == [("tmpfs", NOSUID | NODEV, 0)]


@pytest.mark.parametrize("name", ["etc", "var"])
def test_an_overlay_of_the_disks_is_on_the_layers_where_the_kernel_takes_it(
    kernel: Kernel, root: Any, tmp_path: Path, name: str
) -> None:
    """After the other kind, by which the kernel says whether another has its directories. It is the
    image's directory with the objects, verified, and not the composed one."""
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / name).mkdir()
    root.lower = os.open(tmp_path / "lower", os.O_RDONLY)
    kernel.takes_layers = True
    kernel.shows(STACKED + ",verity=require")
    state = over(root, **{name: "overlay"})
    assert getattr(state, name)() == "overlay"
    first, tried, made = kernel.overlays
    assert first[1] == -1
    assert tried[1:6] == (root.objects, -1, -1, True, NOSUID | NODEV)
    assert made[1:6] == (root.objects, root.mount, root.mount, True, NOSUID | NODEV)
    for overlay in (tried, made):
        assert os.path.samestat(os.fstat(overlay[0]), (tmp_path / "lower" / name).stat())
        assert overlay[8]
    [attached] = kernel.attached
    assert os.path.samestat(os.fstat(attached), (tmp_path / name).stat())
    kernel.shows(STACKED)
    with pytest.raises(Refused, match=f"check: /{name}: mount options .*verity=require among"):
        getattr(state, name)()


def test_layers_that_fail_with_the_directories_of_the_disk_are_refused(
    kernel: Kernel, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is tried then: the work directory has been another overlay's since."""
    real = _cfs.overlay_mount

    def overlay(*arguments: Any) -> int:
        if arguments[9:] == (True,) and arguments[3] >= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)

    kernel.takes_layers = True
    monkeypatch.setattr(_cfs, "overlay_mount", overlay)
    with pytest.raises(Refused, match=r"state: /state: .*\(EIO\)$"):
        over(root, etc="overlay").etc()
    assert kernel.attached == []


def test_what_is_laid_over_is_a_directory_of_the_image(
    kernel: Kernel, root: Any, tmp_path: Path
) -> None:
    with opens() as seen:
        over(root, etc="bind").etc()
    assert seen["etc"] == DIRECTORY | os.O_PATH
    (tmp_path / "etc").rmdir()
    (tmp_path / "etc").symlink_to("var")
    with pytest.raises(Refused, match=r"state: /etc: Not a .*expected a directory in the image"):
        over(root, etc="bind").etc()


@pytest.mark.parametrize(
    ("call", "number", "etc", "said"),
    [
        ("mount_clone", errno.EIO, "bind", r"/state: .*\(EIO\)"),
        ("mount_attach", errno.EIO, "bind", r"/etc: .*\(EIO\)"),
        ("overlay_mount", errno.EIO, "overlay", r"/state: .*\(EIO\)"),
        ("overlay_mount", errno.EBUSY, "overlay", "/state: .*that no other overlay is using"),
        ("fs_mount", errno.EIO, "transient", r"/etc: .*\(EIO\)"),
    ],
)
def test_what_the_kernel_does_not_mount_is_refused(
    kernel: Kernel, root: Any, monkeypatch: pytest.MonkeyPatch,
    call: str, number: int, etc: str, said: str,
) -> None:  # fmt: skip
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    assert kernel
    monkeypatch.setattr(_cfs, call, fail)
    with pytest.raises(Refused, match=f"state: {said}$"):
        over(root, etc=etc).etc()


RUNNING = (
    "77 1 0:40 / /etc rw - overlay cfs-etc rw,redirect_dir=nofollow,"
    "upperdir=/proc/self/fd/3/{name},workdir=/w"
)
SAME = Digest(1, b"\xab" * 32)


@pytest.mark.parametrize(
    ("digest", "line", "taken"),
    [
        (SAME, RUNNING, True),
        (SAME, RUNNING.replace("/w", "/wx"), True),
        (None, RUNNING, False),
        (Digest(1, b"\xcd" * 32), RUNNING, False),
        (SAME, RUNNING.replace("name}", "name}x"), False),
        (SAME, RUNNING.replace("cfs-etc", "cfs-var"), False),
        (SAME, RUNNING.replace("/ /etc", "/sub /etc"), False),
        (SAME, RUNNING.replace("overlay", "tmpfs"), False),
        (SAME, RUNNING.replace("77", "78"), False),
    ],
)
def test_the_overlay_of_the_running_system_is_taken_again(
    kernel: Kernel, root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    digest: Digest | None, line: str, taken: bool,
) -> None:  # fmt: skip
    """For a soft reboot into the image that runs. Above another image it would show that one's
    /etc."""
    root.image.digest = SAME
    asked: list[str] = []

    def at(path: str) -> Any:
        asked.append(path)
        return None if digest is None else SimpleNamespace(directory=root.mount, digest=digest)

    def busy(*_: object) -> int:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(existing, "at", at)
    monkeypatch.setattr(_cfs, "overlay_mount", busy)
    upper = existing.name(root.mount)
    (tmp_path / "mountinfo").write_text(line.format(name=upper) + "\n")
    if not taken:
        with pytest.raises(Refused, match="that no other overlay is using"):
            over(root, etc="overlay").etc()
        assert (kernel.cloned, kernel.attached) == ([], [])
        return
    assert over(root, etc="overlay").etc() == "overlay"
    assert asked == ["/"]
    [cloned] = kernel.cloned
    assert os.path.samestat(os.fstat(cloned), (tmp_path / "etc").stat())
    assert len(kernel.attached) == 1


@pytest.mark.parametrize(("readonly", "more"), [(True, RDONLY), (False, 0)])
def test_the_disk_is_shown_and_nothing_on_it_runs(
    kernel: Kernel, root: Any, monkeypatch: pytest.MonkeyPatch, readonly: bool, more: int
) -> None:
    stage: Any = SimpleNamespace(base=101, disk=lambda: 102)
    with opens() as seen:
        said = layers.show_disk(stage, root, readonly)
    assert said == ("read-only" if readonly else "writable")
    assert seen == {"sysroot": DIRECTORY | os.O_PATH}
    assert kernel.made == [("clone", NOSUID | NODEV | NOEXEC | more, 0)]
    assert kernel.cloned == [101 if readonly else 102]

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_cfs, "mount_set", fail)
    with pytest.raises(Refused, match="state: /sysroot: Input/output error"):
        layers.show_disk(stage, root, readonly)


def test_a_disk_without_a_place_is_not_shown(kernel: Kernel, root: Any, tmp_path: Path) -> None:
    stage: Any = SimpleNamespace(base=root.mount)
    (tmp_path / "sysroot").rmdir()
    said = [layers.show_disk(stage, root, True)]
    (tmp_path / "sysroot").symlink_to("var")
    said.append(layers.show_disk(stage, root, True))
    assert said == ["not shown: no such directory in the image"] * 2
    assert kernel.made == []
    root.mount = -1
    with pytest.raises(Refused, match=r"state: /sysroot: .*\(EBADF\)"):
        layers.show_disk(stage, root, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (STACKED, None),
        ("rw,index=off", "redirect_dir=nofollow and no metacopy=on"),
        ("rw,redirect_dir=on", "redirect_dir=nofollow and no metacopy=on"),
        (STACKED + ",metacopy=on", "redirect_dir=nofollow and no metacopy=on"),
        (STACKED.replace("rw", "ro"), "an overlay that can be written to"),
    ],
)
def test_an_overlay_of_the_disks_is_read_back(
    kernel: Kernel, root: Any, options: str, said: str | None
) -> None:
    """With redirects its upper layer reaches any file of the image, by another name."""
    kernel.shows(options)
    if said is None:
        assert over(root, etc="overlay").etc() == "overlay"
        return
    with pytest.raises(Refused, match=f"check: /etc: .*{said}"):
        over(root, etc="overlay").etc()
    kernel.shows_nothing()
    with pytest.raises(Refused, match=r"check: /etc: .*redirect_dir=nofollow"):
        over(root, etc="overlay").etc()
