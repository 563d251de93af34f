# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The private apt: what it takes over from the machine, and that signatures count."""

from pathlib import Path

import pytest

from . import apt
from .apt import PackageError, Suite, machine_acquire_settings


def test_machine_cannot_turn_signatures_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "machine.conf"
    machine.write_text(
        'Acquire::AllowInsecureRepositories "1";\nAcquire::AllowWeakRepositories "1";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\nAPT::Get::AllowUnauthenticated "1";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(machine))
    settings = machine_acquire_settings()
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in settings
    assert "Allow" not in settings


def test_unsigned_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "archive/dists/trixie"
    (release / "main/binary-amd64").mkdir(parents=True)
    (release / "main/binary-amd64/Packages").write_text("")
    (release / "Release").write_text("Suite: trixie\nCodename: trixie\nComponents: main\n")
    monkeypatch.setattr(apt, "machine_mirror", lambda: f"file://{tmp_path}/archive")
    with pytest.raises(PackageError, match="not signed"):
        Suite("trixie", tmp_path / "apt").version("base-files")
