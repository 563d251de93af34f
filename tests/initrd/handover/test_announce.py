# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the booted system finds of us in /run, and the line on the console."""

import errno
from pathlib import Path

import pytest

from pyinit.initrd.handover import announce, keep, named_images, relabel, status, volatile_root
from pyinit.initrd.kernel import selinux
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config


@pytest.mark.parametrize("linked", [True, False])
def test_announce_leaves_record_configuration_and_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    linked: bool,
) -> None:  # fmt: skip
    """The link only where it is asked for: who finds it lets in partitions of the disk."""
    link = tmp_path / "systemd" / "link"
    monkeypatch.setattr(status, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(status, "PATH", str(tmp_path / "root.json"))
    monkeypatch.setattr(status, "CONFIG", str(tmp_path / "setup-root.conf"))
    monkeypatch.setattr(volatile_root, "LINK", str(link))
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    monkeypatch.setattr(relabel, "LIST", str(tmp_path / "relabel-extra.d/cfs.relabel"))
    monkeypatch.setattr(keep, "UNITS", str(tmp_path / "system"))
    settings = config.Config()
    settings.etc = "bind"
    settings.volatile_root_link = linked
    record: dict[str, status.Value] = {
        "image": "/i", "digest": "d", "source": "carried", "etc": "bind", "var": "tmpfs",
        "device": "/dev/block/8:1", "missing_candidates": ["one"],
    }  # fmt: skip
    announce.announce("cfs-setup-root", record, settings)
    assert link.is_symlink() == linked
    assert not linked or link.readlink() == Path("/dev/block/8:1")
    assert config.load(str(tmp_path / "setup-root.conf")).etc == "bind"
    assert (tmp_path / "relabel-extra.d/cfs.relabel").read_text() == "/var\n"
    assert [path.name for path in (tmp_path / "system").iterdir()] == ["var.mount.d"]
    assert '"etc": "bind"' in (tmp_path / "root.json").read_text()
    assert capfd.readouterr().err.splitlines() == [
        "cfs-setup-root: candidate one has no image, going on to the next",
        "cfs-setup-root: root is /i (d, carried), /etc bind, /var tmpfs",
    ]
    assert not (tmp_path / "apps").exists()
    link.unlink(missing_ok=True)
    record |= {"device": None, "missing_candidates": None}
    announce.announce("cfs-setup-root", record, settings)
    assert not link.is_symlink()
    assert capfd.readouterr().err.splitlines() == [
        "cfs-setup-root: root is /i (d, carried), /etc bind, /var tmpfs"
    ]


def test_apps_are_left_as_the_uki_spells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """named_images.py reads the list back."""
    one, two = Digest(1, bytes(range(32))), Digest(2, bytes(range(64)))
    for each in ("PATH", "CONFIG", "APPS"):
        monkeypatch.setattr(status, each, str(tmp_path / each))
    monkeypatch.setattr(announce, "say", lambda *_: None)
    record: dict[str, status.Value] = {"device": None, "apps": {"a-b": str(one), "c": str(two)}}
    announce.announce("cfs-setup-root", record, config.Config())
    assert (tmp_path / "APPS").read_text() == (
        f"cfsapp1\na-b=fsverity-sha256-12:{one.hex}\nc=fsverity-sha512-12:{two.hex}\n"
    )
    assert named_images.of_uki() == {"a-b": one, "c": two}
    # Somebody else's list does not stay where the UKI names nothing.
    announce.announce("cfs-setup-root", {"device": None, "apps": {}}, config.Config())
    assert (tmp_path / "APPS").read_text() == "cfsapp1\n"
    assert named_images.of_uki() == {}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "name: warning: /run/x: full (ENOSPC)\n"),
        (MemoryError(), "warning: /run/x: out of memory\n"),
    ],
)
def test_what_cannot_be_left_is_told_and_stops_no_boot(
    capfd: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def fail() -> None:
        raise error

    announce.leave("name", "/run/x", fail)
    assert capfd.readouterr().err == said


def test_no_memory_for_the_line_on_the_console(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(announce, "leave", lambda *_: None)
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    monkeypatch.setattr(announce, "say", fail)
    announce.announce("name", {"device": None}, config.Config())
    assert capfd.readouterr().err == "warning: out of memory\n"


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("mode", ["sealed", "transient", "transient-ro"])
def test_a_root_that_is_writable_for_its_label_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str, is_on: bool
) -> None:
    monkeypatch.setattr(announce, "leave", lambda *_: None)
    monkeypatch.setattr(announce, "say", lambda *_: None)
    monkeypatch.setattr(selinux, "is_on", lambda: is_on)
    announce.announce("name", {"device": None, "root": mode}, config.Config())
    told = capfd.readouterr().err
    assert bool(told) == (mode == "transient-ro" and is_on)
    assert not told or told.startswith("name: / stays writable until systemd has given it its ")
