# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What lies at /run/nextroot, and what is said of it; tests/vm/test_state.py reboots into it."""

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd import boot
from pyinit.initrd.handover import keep, relabel, status
from pyinit.initrd.programs import soft_reboot
from pyinit.initrd.report.errors import EXIT_OK, Refused
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import leftovers

DIGEST = Digest(1, b"\xab" * 32)
OTHER = Digest(1, b"\xcd" * 32)
BUILT = {
    "image": "/images/x",
    "digest": str(DIGEST),
    "missing_candidates": [],
    "etc": "transient",
    "var": "persistent",
}


class System:
    """A running system in which the steps are written down, and nothing is mounted."""

    def __init__(self, patch: pytest.MonkeyPatch, place: Path) -> None:
        self.target = place / "nextroot"
        self.tree = place / "tree"
        self.next = place / "nextroot.json"
        self.mounted: Digest | None = None
        self.leftovers: tuple[int, str] | None = None
        self.done: list[object] = []
        (self.tree / "etc").mkdir(parents=True)
        (self.tree / "etc/os-release").touch()
        patch.setattr(soft_reboot, "TARGET", str(self.target))
        patch.setattr(status, "DIRECTORY", str(place))
        patch.setattr(status, "NEXT", str(self.next))
        self.relabel = place / "relabel-extra.d/cfs.relabel"
        patch.setattr(relabel, "LIST", str(self.relabel))
        self.units = place / "system"
        patch.setattr(keep, "UNITS", str(self.units))
        patch.setattr(compose, "mounted_at", lambda _: self.mounted)
        patch.setattr(soft_reboot, "Stage", self._stage)
        patch.setattr(boot, "build", self._build)
        self.extensions = place / "extensions"
        patch.setattr(soft_reboot, "EXTENSIONS", [str(self.extensions)])
        patch.setattr(compose, "attach", self._attach)
        patch.setattr(leftovers, "remove_later", lambda *what: self.done.append(what))

    def _stage(self, sysroot: str) -> object:
        self.done.append(sysroot)
        stage = SimpleNamespace(leftovers=self.leftovers, strip=lambda: self.done.append("strip"))
        return contextlib.nullcontext(stage)

    def _build(self, *_: object) -> object:
        return os.open(self.tree, os.O_PATH), "image", BUILT, {}

    def _attach(self, tree: int, target: str, _image: object) -> None:
        os.close(tree)
        assert os.path.isdir(target)
        assert not self.next.exists()  # that of another root
        self.done.append("attach")

    def prepare(self) -> int:
        return soft_reboot.prepare("name", Config(), DIGEST, "/sysroot")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> System:
    return System(monkeypatch, tmp_path)


@pytest.mark.parametrize("old", [None, (3, "old")])
def test_a_root_is_attached_and_recorded(
    system: System, capfd: pytest.CaptureFixture[str], old: tuple[int, str] | None
) -> None:
    """Of a caller who could mount anything there it is no proof, and the record says so."""
    system.leftovers = old
    system.next.write_text("of one that was unmounted since")
    assert system.prepare() == EXIT_OK
    assert system.done == ["/sysroot", "strip", "attach", *([old] if old else [])]
    record = json.loads(system.next.read_text())
    assert (record["source"], record["level"]) == ("soft-reboot", "soft-reboot")
    assert record["digest"] == str(DIGEST)
    assert system.relabel.read_text() == "/etc\n"
    assert (system.units / "var.mount.d/cfs.conf").exists()
    assert f"is /images/x ({DIGEST}, soft-reboot)" in capfd.readouterr().err


def test_extensions_that_the_next_root_will_not_have(
    system: System, capfd: pytest.CaptureFixture[str]
) -> None:
    said = "warning: the extensions of the running system are not in the next one"
    system.extensions.mkdir()
    system.prepare()
    assert said not in capfd.readouterr().err
    (system.extensions / "debug").mkdir()
    system.prepare()
    assert said in capfd.readouterr().err


def test_the_same_one_is_nothing_to_do(system: System, capfd: pytest.CaptureFixture[str]) -> None:
    system.mounted = DIGEST
    system.next.write_text(f'{{"digest": "{DIGEST}"}}')
    assert system.prepare() == EXIT_OK
    assert capfd.readouterr().err == (f"name: {DIGEST} is mounted on {system.target} already\n")
    assert system.done == []


@pytest.mark.parametrize(
    ("mounted", "recorded", "said"),
    [
        (OTHER, DIGEST, f"nextroot: {OTHER} is mounted there already, expected none: umount -R"),
        (DIGEST, OTHER, "nextroot.json: no record of what lies at .*, expected one: umount -R"),
        (DIGEST, None, "nextroot.json: no record of what lies at .*, expected one: umount -R"),
    ],
)
def test_what_lies_there_is_not_replaced(
    system: System, mounted: Digest, recorded: Digest | None, said: str
) -> None:
    system.mounted = mounted
    if recorded is not None:
        system.next.write_text(f'{{"digest": "{recorded}"}}')
    with pytest.raises(Refused, match=said):
        system.prepare()
    assert system.done == []


@pytest.mark.parametrize(
    ("name", "is_link"), [("usr/lib/os-release", False), ("etc/os-release", True), ("etc/x", False)]
)
def test_only_what_systemd_takes_for_a_root_is_attached(
    system: System, name: str, is_link: bool
) -> None:
    """A link leads into the image once that is the root; here it would be the running system's."""
    path = system.tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (system.tree / "etc/os-release").unlink()
    if is_link:
        path.symlink_to("/no/such/os-release")
    else:
        path.touch()
    if name.endswith("os-release"):
        assert system.prepare() == EXIT_OK
    else:
        with pytest.raises(Refused, match="state: /usr/lib/os-release: not in the image"):
            system.prepare()
    assert ("attach" in system.done) == name.endswith("os-release")
