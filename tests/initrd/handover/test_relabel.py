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
        # no label can be set there
        (record(root="transient-ro"), []),
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


def test_a_unit_is_left_and_wanted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabel, "UNITS", str(tmp_path / "systemd/system"))
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    relabel.leave_unit()
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(selinux, "is_on", lambda: True)
    for _ in range(2):  # as a soft reboot finds it
        relabel.leave_unit()
    wanted = tmp_path / "systemd/system/sysinit.target.wants/cfs-label.service"
    assert wanted.read_text() == (tmp_path / "systemd/system/cfs-label.service").read_text()
    assert os.readlink(wanted) == "../cfs-label.service"
    lines = wanted.read_text().splitlines()
    assert "ConditionSecurity=selinux" in lines
    assert "ExecStart=-chcon -R --reference=/usr/lib/os-release /run/cfs" in lines
