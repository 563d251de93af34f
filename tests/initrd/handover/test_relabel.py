# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What systemd is told to relabel: all that is in memory, and nothing else."""

import os
from pathlib import Path

import pytest

from pyinit.initrd.handover import relabel, status
from pyinit.initrd.kernel import selinux


def record(root: str = "sealed", etc: str = "none", var: str = "none") -> "dict[str, status.Value]":
    return {"root": root, "etc": etc, "var": var}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(etc="transient", var="tmpfs"), ["/etc", "/var"]),
        (record(root="transient", etc="bind", var="bind"), ["/"]),
        (record("transient", "transient", "tmpfs"), ["/", "/etc", "/var"]),
        # real labels, on the disk
        (record(etc="overlay", var="transient-disk"), []),
        # writable until it is labelled
        (record(root="transient-ro"), ["/"]),
        # the mode of the configuration, not of the record
        (record(var="transient"), []),
    ],
)
def test_what_lies_in_memory(given: "dict[str, status.Value]", expected: list[str]) -> None:
    assert relabel.paths(given) == expected


def test_a_list_is_one_path_a_line_and_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "systemd/relabel-extra.d/cfs.relabel"
    monkeypatch.setattr(relabel, "LIST", str(place))
    relabel.write(record())  # nothing in memory, and no list that was there
    assert not place.parent.exists()
    relabel.write(record("transient", "transient", "tmpfs"))
    assert place.read_text() == "/\n/etc\n/var\n"
    relabel.write(record(etc="transient"))
    assert place.read_text() == "/etc\n"
    assert os.listdir(place.parent) == [place.name]
    relabel.write(record())
    assert not place.exists()


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(relabel, "UNITS", str(tmp_path / "systemd/system"))
    return tmp_path / "systemd/system"


def test_units_are_left_and_wanted_once(units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    relabel.leave_units(record("transient-ro"))
    assert not units.exists()
    monkeypatch.setattr(selinux, "is_on", lambda: True)
    for _ in range(2):  # as a soft reboot finds it
        relabel.leave_units(record("transient-ro"))
    wanted = units / "sysinit.target.wants"
    names = ["cfs-label.service", "cfs-read-only.service"]
    assert sorted(os.listdir(wanted)) == names
    for name in names:
        assert os.readlink(wanted / name) == f"../{name}"
        assert "ConditionSecurity=selinux" in (wanted / name).read_text().splitlines()
    label, read_only = ((wanted / name).read_text().splitlines() for name in names)
    assert "ExecStart=-chcon -R --reference=/usr/lib/os-release /run/cfs" in label
    # a failure is one of the unit, and /usr is a mount of its own
    assert [line for line in read_only if line.startswith("ExecStart")] == [
        "ExecStart=mount -o remount,bind,ro /usr",
        "ExecStart=mount -o remount,bind,ro /",
    ]


@pytest.mark.parametrize("mode", ["sealed", "transient"])
def test_another_root_is_not_made_read_only(
    units: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """After a soft reboot by another configuration, for one."""
    monkeypatch.setattr(selinux, "is_on", lambda: True)
    for earlier in ((), ("transient-ro",)):
        for root in (*earlier, mode):
            relabel.leave_units(record(root))
        assert os.listdir(units / "sysinit.target.wants") == ["cfs-label.service"]


@pytest.mark.parametrize(
    ("mode", "on", "expected"),
    [
        ("sealed", True, False),
        ("transient", True, True),
        ("transient", False, True),
        ("transient-ro", True, True),
        ("transient-ro", False, False),
    ],
)
def test_a_root_is_handed_over_writable_to_get_its_label(
    monkeypatch: pytest.MonkeyPatch, mode: str, on: bool, expected: bool
) -> None:
    monkeypatch.setattr(selinux, "is_on", lambda: on)
    assert relabel.is_writable(mode) == expected
