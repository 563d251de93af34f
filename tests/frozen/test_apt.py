# SPDX-License-Identifier: Apache-2.0 OR MIT

from pathlib import Path

import pytest

from pyinit.host.frozen import apt


def test_which_of_the_machines_mirrors_are_taken() -> None:
    targets = """\
http://deb.example/debian/|bookworm|main|Debian
http://deb.example/debian/|bookworm|contrib|Debian
http://deb.example/debian-security/|bookworm-security|main|$(ORIGIN)
cdrom://Debian GNU Linux 12/|bookworm|main|Debian
https://others.example/|stable|main|Others
https://flat.example/|$(RELEASE)|$(COMPONENT)|$(ORIGIN)
"""
    assert apt.source_lines(targets, Path("/keys.gpg")) == {
        "deb-src [signed-by=/keys.gpg] http://deb.example/debian/ bookworm main",
        "deb-src [signed-by=/keys.gpg] http://deb.example/debian-security/ bookworm-security main",
    }
    assert "deb-src http://deb.example/debian/ bookworm main" in apt.source_lines(targets, None)
    assert apt.source_lines(targets, None, "arm64") == {
        "deb http://deb.example/debian/ bookworm main",
        "deb http://deb.example/debian-security/ bookworm-security main",
    }


def test_versions_are_compared_as_debian_does() -> None:
    versions = ["3.11.2-6+deb12u9", "3.11.2-6+deb12u10", "3.11.2-6", "3.11.2-6~rc1"]
    assert sorted(versions, key=apt.by_version) == [
        "3.11.2-6~rc1", "3.11.2-6", "3.11.2-6+deb12u9", "3.11.2-6+deb12u10",
    ]  # fmt: skip


def test_what_a_tool_said_is_told() -> None:
    with pytest.raises(apt.AptError, match=r"^sh -c: E: no such package$"):
        apt.run(["sh", "-c", "echo W: old >&2; echo E: no such package >&2; exit 100"])
    with pytest.raises(apt.AptError, match=r"^sh -c: other words"):
        apt.run(["sh", "-c", "echo other words >&2; exit 1"])


def test_an_emptied_directory_has_nothing_of_before(tmp_path: Path) -> None:
    place = apt.emptied(tmp_path / "a" / "b")
    (place / "file").touch()
    assert list(apt.emptied(place).iterdir()) == []


@pytest.mark.parametrize(("architecture", "line"), [(None, "deb-src "), ("arm64", "deb ")])
def test_the_machines_apt_is_not_asked_again(
    architecture: str | None, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are its lists, its settings or its architectures touched."""
    commands: list[list[str]] = []

    def run(command: list[str], place: Path | None = None) -> str:
        commands.append(command)
        if command[1] == "indextargets":
            return "http://deb.example/debian/|trixie|main|Debian\n"
        if "download" in command:
            assert place is not None
            (place / "musl-dev_1_arm64.deb").touch()
        return ""

    monkeypatch.setattr(apt, "run", run)
    own = apt.Apt(tmp_path / "apt", architecture)
    assert (tmp_path / "apt/sources.list").read_text().startswith(line)
    own.update()
    assert own.package("musl-dev").name == "musl-dev_1_arm64.deb"
    for command in commands[1:]:
        assert f"-oDir::State={tmp_path}/apt" in command
        assert f"-oDir::Etc::sourcelist={tmp_path}/apt/sources.list" in command
        assert ("-oAPT::Architecture=arm64" in command) is (architecture is not None)
