# SPDX-License-Identifier: Apache-2.0 OR MIT
"""mount.cfs in daily use: fstab, mount(8), umount(8), findmnt(8) and systemd of Debian 13.

The same boot as in test_mkosi.py; the commands are in mounts.py.
"""

import re

import pytest

from .mkosi import Part, report
from .mounts import PARTS
from .store import Store
from .toolbox import Toolbox

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def said(toolbox: Toolbox) -> dict[str, Part]:
    return report(toolbox, PARTS)


def test_a_line_of_fstab_is_mounted_at_boot(said: dict[str, Part], store: Store) -> None:
    assert dict(line.split("=") for line in said["fstab-unit"].text.splitlines()) == {
        "ActiveState": "active", "Result": "success", "Type": "overlay",
        "What": f"composefs:{store.sha256}",
    }  # fmt: skip
    source, target, kind, options = said["fstab-findmnt"].text.split()
    assert (source, target, kind) == (f"composefs:{store.sha256}", "/srv", "overlay")
    assert {"ro", "nodev", "verity=require"} <= set(options.split(","))
    assert said["fstab-read"] == Part(0, "fixture\n")


@pytest.mark.parametrize("name", ["mount-by-target", "mount-again", "generic", "made-target"])
def test_findmnt_shows_the_digest(said: dict[str, Part], store: Store, name: str) -> None:
    assert said[name] == Part(0, f"composefs:{store.sha256}\n")


@pytest.mark.parametrize("name", ["umount", "fake"])
def test_it_is_not_mounted(said: dict[str, Part], name: str) -> None:
    assert said[name] == Part(0, "")


def test_mount_a_again_and_again(said: dict[str, Part]) -> None:
    """With an upper layer, and without a check, too. It warns of the latter each time."""
    lines = said["mount-all"].text.splitlines()
    warnings = [line for line in lines if line.startswith("mount.cfs: warning: --verity off")]
    assert len(warnings) == 3
    targets = sorted(line for line in lines if line not in warnings)
    assert (said["mount-all"].code, targets) == (0, ["/media", "/run/place", "/srv"])


def test_a_remount_changes_what_is_said(said: dict[str, Part]) -> None:
    """A line of fstab has nodev."""
    assert said["remount"] == Part(0, "ro,nodev,noexec,noatime\nro,nodev\n")


def test_fstab_is_verified(said: dict[str, Part]) -> None:
    """There are warnings: the source is a directory, and the kernel has no file system of that
    name."""
    assert said["verify"].code == 0, said["verify"].text
    assert "0 parse errors, 0 errors" in said["verify"].text


def test_a_mount_unit_is_reloaded(said: dict[str, Part]) -> None:
    """systemd remounts with the options of the unit; it takes none away that are not denied."""
    assert said["reload"] == Part(0, "ro,nosuid,noexec,relatime\n")


def test_the_command_line(said: dict[str, Part]) -> None:
    assert said["command-line"].code == 0
    assert "mount.cfs: " in said["command-line"].text  # -v
    assert "noexec" in said["command-line"].text


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("unknown", 1, r"mount\.cfs: error: usage: nonsense: unknown mount option"),
        ("empty-digest", 1, r"mount\.cfs: error: usage: digest: "),
        ("no-digest", 1, r"mount\.cfs: error: usage: digest: missing"),
        ("wrong-digest", 32, r"mount\.cfs: refused: open: "),
        # mount(8) drops its rights where fstab does not allow the user, and tries as he is.
        ("user", 2, r"mount\.cfs: error: attach: /srv: .*run as root"),
        ("user-helper", 2, r"mount\.cfs: error: attach: /srv: .*run as root"),
    ],
)
def test_it_is_said_what_is_wrong(said: dict[str, Part], name: str, code: int, text: str) -> None:
    assert said[name].code == code, said[name].text
    assert re.match(text, said[name].text), said[name].text


def test_unknown_options_may_be_ignored(said: dict[str, Part]) -> None:
    assert said["sloppy"].code == 0, said["sloppy"].text


def test_a_mount_unit(said: dict[str, Part], store: Store) -> None:
    assert said["unit"].code == 0, said["unit"].text
    assert said["unit"].text.split() == [f"composefs:{store.sha256}", "overlay"]


def test_an_automount_point(said: dict[str, Part], store: Store) -> None:
    assert said["automount"].code == 0, said["automount"].text
    assert said["automount"].text.splitlines() == ["fixture", f"composefs:{store.sha256}"]


def test_a_mount_unit_that_is_refused_says_why(said: dict[str, Part]) -> None:
    assert said["refused-unit"].code != 0
    assert re.search(r"mount\.cfs: refused: open: ", said["refused-unit"].text)
