# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How state is mounted: every attribute that the kernel is told, every option that is read back.
The mounts themselves, made by kernels, are in tests/vm/test_state.py."""

import _cfs
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import copying, layers
from pyinit.initrd.state.area import Entry

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
STACKED = "rw,redirect_dir=nofollow,index=off"


class Kernel:
    """Mounts nothing, and keeps with which attributes each mount would have been made."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self.made: list[tuple[str, int, int]] = []
        self._path = path
        self._clone = 0

        def clone(_fd: int, _recursive: bool) -> int:
            self._clone = self._new()
            return self._clone

        def set_attributes(mount: int, add: int, clear: int, _recursive: bool) -> None:
            assert mount == self._clone
            self.made.append(("clone", add, clear))

        def overlay(_source: str, *rest: Any) -> int:
            self.made.append(("overlay", rest[-1], 0))
            return self._new()

        def fs(kind: str, _options: object, attributes: int) -> int:
            self.made.append((kind, attributes, 0))
            return self._new()

        patch.setattr(_cfs, "mount_clone", clone)
        patch.setattr(_cfs, "mount_set", set_attributes)
        patch.setattr(_cfs, "overlay_mount", overlay)
        patch.setattr(_cfs, "fs_mount", fs)
        patch.setattr(_cfs, "mount_attach", lambda *_: None)
        patch.setattr(mountinfo, "PATH", str(path / "mountinfo"))
        patch.setattr(mountinfo, "mount_id", lambda _fd: 77)
        self.shows(STACKED)

    def _new(self) -> int:
        """Whatever is done in a mount is done in a directory of the test's."""
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)

    def shows(self, options: str) -> None:
        line = f"77 1 0:40 / /mnt rw - overlay cfs-etc {options}\n"
        (self._path / "mountinfo").write_text(line)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    return Kernel(monkeypatch, tmp_path)


class Area:
    """State that is there: the directory itself."""

    def __init__(self, fd: int) -> None:
        self._entry = Entry("/state")
        self._entry.fd = fd

    def bind(self, _template: str, _image: int) -> Entry:
        return self._entry

    fresh = bind

    def layers(self, _template: str, _image: int) -> tuple[Entry, int, int]:
        return self._entry, self._entry.fd, self._entry.fd


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


@pytest.mark.parametrize("mode", ["bind", "transient-disk", "overlay", "transient"])
def test_nothing_over_the_root_has_devices_or_set_user_id(
    kernel: Kernel, root: Any, mode: str
) -> None:
    """Who writes the disk has no program in it that runs as root, and no device."""
    over(root, var=mode).var()
    kind = {"overlay": "overlay", "transient": "tmpfs"}.get(mode, "clone")
    assert kernel.made == [(kind, NOSUID | NODEV, 0)]


def test_a_transient_etc(kernel: Kernel, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "attributes", lambda *_: None)
    kernel.shows("rw,verity=require")
    assert over(root, etc="transient").etc() == "transient"
    assert kernel.made == [("tmpfs", NOSUID | NODEV, 0), ("overlay", NOSUID | NODEV, 0)]
    for name in ("upper", "work"):
        os.rmdir(f"/proc/self/fd/{root.mount}/{name}")
    kernel.shows("rw")
    with pytest.raises(Refused, match=r"check: /etc: mount options 'rw', expected verity=require"):
        over(root, etc="transient").etc()


@pytest.mark.parametrize(("readonly", "more"), [(True, RDONLY), (False, 0)])
def test_the_disk_is_shown_and_nothing_on_it_runs(
    kernel: Kernel, root: Any, readonly: bool, more: int
) -> None:
    stage = SimpleNamespace(base=root.mount, disk=lambda: root.mount)
    layers.show_disk(stage, root, readonly)  # type: ignore[arg-type]
    assert kernel.made == [("clone", NOSUID | NODEV | NOEXEC | more, 0)]


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
