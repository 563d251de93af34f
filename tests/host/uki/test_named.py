# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What boot files name: UKIs, and the entries of boot loaders."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinit.host.uki.named import below, none_in
from pyinit.initrd.report.errors import CfsError
from pyinit.initrd.root.digest import Digest
from tests.host.commands.test_cfs_uki import ONE, TWO, sealed_section, write


def entry(directory: Path, name: str, text: str) -> Path:
    path = directory / "loader/entries" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def named(path: Path) -> dict[str, tuple[list[Digest], CfsError | None]]:
    return {file.name: (found, error) for file, found, error in below(path, entries=True)}


def test_entries_of_boot_loaders(tmp_path: Path) -> None:
    """bootc without a UKI says there which root it is."""
    write(tmp_path / "a.efi", sealed_section(TWO))
    entry(tmp_path, "a.conf", f"title A\noptions quiet\noptions\trw composefs={ONE.hex}\n")
    entry(tmp_path, "b.conf", f"# options composefs={ONE.hex}\noptions quiet\nefi /a.efi\n")
    entry(tmp_path, "c.conf", "options composefs=?" + TWO.hex)
    entry(tmp_path, "notes.txt", f"options composefs={ONE.hex}\n")
    (tmp_path / "loader/loader.conf").write_text(f"options composefs={ONE.hex}\n")
    assert named(tmp_path) == {
        "a.efi": ([TWO], None), "a.conf": ([ONE], None), "c.conf": ([TWO], None)
    }  # fmt: skip
    assert [file.name for file, *_ in below(tmp_path)] == ["a.efi"]


@pytest.mark.parametrize("value", ["", "=", "=ab", ".digest=v3-sha256-12:" + "ab" * 32])
def test_an_entry_that_is_broken(tmp_path: Path, value: str) -> None:
    path = entry(tmp_path, "a.conf", f"options composefs{value}\n")
    found = named(tmp_path)
    if value in ("", "="):  # bootc's word for "any", and none
        assert found == {}
    else:
        [(digests, error)] = found.values()
        assert not digests
        assert error is not None
        assert error.path.startswith(str(path))


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = entry(tmp_path, "a.conf", "options composefs=")
    path.unlink()
    path.symlink_to("gone")
    (_, error), *others = named(tmp_path).values()
    assert not others
    assert error is not None
    assert (error.code, error.path) == (2, str(path))
    [(file, found, error)] = below(tmp_path / "gone")
    assert (file, found) == (tmp_path / "gone", [])
    assert error is not None


def test_none(tmp_path: Path) -> None:
    assert not named(tmp_path)
    assert str(none_in(tmp_path)).endswith(f"{tmp_path}: no UKI in it, expected at least one")
