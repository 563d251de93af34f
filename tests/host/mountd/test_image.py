# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who may have what. The lists, systemd and the mounts are stand-ins."""

import errno
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pyinit.host.mountd import clone, image
from pyinit.host.mountd.image import CannotMount, NoSuchImage
from pyinit.initrd.handover import named_images
from pyinit.initrd.report.errors import CfsError, Refused, SystemFailure
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest

A, B = Digest(1, b"\xa1" * 32), Digest(1, b"\xb2" * 32)


class System:
    """`listed`: name to digest and whether it is for users. `mounted`: place to what lies there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.listed: dict[str, tuple[Digest, bool] | CfsError] = {"editor": (A, True)}
        self.mounted: dict[str, existing.Existing] = {}
        self.mounts: Digest | Exception | None = A
        self.started: list[str] = []
        self.asked: list[str] = []
        self.clone: int | OSError = 99
        patch.setattr(named_images, "find", self._find)
        patch.setattr(existing, "at", self._at)
        patch.setattr(subprocess, "run", self._run)
        patch.setattr(clone, "locked", self._clone)

    def _find(self, name: str) -> tuple[Digest, str, bool]:
        self.asked.append(name)
        found = self.listed.get(name, Refused("source", name, "nowhere"))
        if isinstance(found, CfsError):
            raise found
        return found[0], "/store", found[1]

    def _at(self, place: str) -> existing.Existing | None:
        if not self.mounted:
            raise Refused("attach", place, "no directory")
        return self.mounted.get(place)

    def _run(self, command: Sequence[str], **how: Any) -> None:
        assert how["stdin"] == how["stdout"] == subprocess.DEVNULL  # they are the connection
        self.started.append(command[-1])
        if isinstance(self.mounts, Exception):
            raise self.mounts
        if self.mounts is not None:
            self.mount("/run/cfs/images/editor", self.mounts)

    def mount(
        self, place: str, digest: Digest, verity: str = "require", options: str = "ro,nosuid,nodev"
    ) -> None:
        there = existing.Existing.__new__(existing.Existing)
        there.digest, there.verity, there.directory = digest, verity, 7
        there.options = options.split(",")
        self.mounted[place] = there

    def _clone(self, directory: int) -> int:
        assert directory == 7
        if isinstance(self.clone, OSError):
            raise self.clone
        return self.clone


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


def test_the_first_who_asks_has_it_mounted(system: System) -> None:
    assert image.give("editor") == (A, 99)
    assert image.give("editor") == (A, 99)
    assert system.started == ["cfs-mount@editor.service"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "a/b", "../editor", "editor/", "a\0", "a b", "A", "é", "\ud800", "-a",
     "a.raw", "a" * 65, "editor\n", "%i", "a@b", "$x"],
)  # fmt: skip
def test_what_is_no_name_is_asked_for_nowhere(name: str, system: System) -> None:
    with pytest.raises(NoSuchImage):
        image.give(name)
    assert (system.asked, system.started) == ([], [])


def test_what_is_not_for_users_looks_as_if_it_were_not_there(system: System) -> None:
    """Nothing is started for who may not have it."""
    system.listed["secret"] = (A, False)
    system.listed["broken"] = Refused("source", "broken.conf", "unknown key")
    for name in ("secret", "other", "broken"):
        with pytest.raises(NoSuchImage) as caught:
            image.give(name)
        assert str(caught.value) == ""
    assert system.started == []


def _store_elsewhere(system: System) -> None:
    system.listed["editor"] = SystemFailure("source", "/run/cfs/apps", "out of memory")


def _unit_fails(system: System) -> None:
    system.mounts = None


def _unit_hangs(system: System) -> None:
    system.mounts = subprocess.TimeoutExpired("systemctl", 1)


def _no_systemctl(system: System) -> None:
    system.mounts = FileNotFoundError(errno.ENOENT, "no")


def _other_image(system: System) -> None:
    system.mount("/run/cfs/images/editor", B)


def _not_checked(system: System) -> None:
    system.mount("/run/cfs/images/editor", A, verity="off")


def _with_devices(system: System) -> None:
    system.mount("/run/cfs/images/editor", A, options="ro,nosuid")


def _writable(system: System) -> None:
    system.mount("/run/cfs/images/editor", A, options="rw,nosuid,nodev")


def _with_set_user_id(system: System) -> None:
    system.mount("/run/cfs/images/editor", A, options="ro,nodev")


def _no_user_namespaces(system: System) -> None:
    system.clone = OSError(errno.ENOSPC, "No space left")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_store_elsewhere, "the system failed"),
        (_unit_fails, "or it was unmounted since: systemctl restart cfs-mount@editor"),
        (_unit_hangs, "cfs-mount@editor.service has not ended in 40 s: ask again later"),
        (_no_systemctl, "cfs-mount@editor.service was not started"),
        (_other_image, "another image is mounted there"),
        (_not_checked, "another image is mounted there"),
        (_with_devices, "without ro, nosuid or nodev"),
        (_writable, "without ro, nosuid or nodev"),
        (_with_set_user_id, "without ro, nosuid or nodev"),
        (_no_user_namespaces, "no user namespaces"),
    ],
)
def test_what_is_not_given(change: Callable[[System], None], words: str, system: System) -> None:
    change(system)
    with pytest.raises(CannotMount) as caught:
        image.give("editor")
    assert words in str(caught.value)
    assert "/" not in str(caught.value)  # where things lie is for root's eyes
