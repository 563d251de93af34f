# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What UKIs need of a store, as `cfs-store gc` asks them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.uki import boot_partitions
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest
from tests.host.commands.test_cfs_uki import LINUX, ONE, sealed_initrd, sealed_section, write
from tests.host.store.conftest import alone, kernel, store
from tests.host.store.test_gc import add_image, tree, whole
from tests.host.uki.test_named import entry
from tests.host.uki.test_pe_write import Image

__all__ = ["alone", "kernel", "store"]
pytestmark = pytest.mark.usefixtures("alone")
Capture = pytest.CaptureFixture[str]
Partitions = tuple[list[Path], list[CfsError]]


def gc(store: Path, *options: object) -> int:
    return main(["gc", "--now", *map(str, options), str(store)])


def as_digest(digits: str) -> Digest:
    return Digest.parse(digits, "")


@pytest.fixture
def esp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one that is found by itself."""
    path = tmp_path / "efi"
    (path / "EFI/Linux").mkdir(parents=True)
    monkeypatch.setattr(boot_partitions, "find", lambda _: ([path], []))
    return path


@pytest.mark.parametrize("how", ["section", "initrd", "line", "entry", "addon"])
@pytest.mark.parametrize("given", [False, True])
def test_what_a_uki_names_stays(store: Path, esp: Path, how: str, given: bool) -> None:
    named, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    uki = esp / "EFI/Linux/a.efi"
    if how == "entry":
        entry(esp, "a.conf", f"options composefs={named}\n")
    else:
        line = (".cmdline", f"quiet composefs={named}".encode())
        sections = {
            "section": [sealed_section(as_digest(named))],
            "initrd": [sealed_initrd(as_digest(named))],
            "line": [line],
            "addon": [sealed_section(ONE, as_digest(named))],  # the first of two is not here
        }
        write(uki, *sections[how])
    assert gc(store, *(["--uki", esp] if given else [])) == 0
    assert whole(store, named)
    assert not (store / "images" / gone).is_symlink()


def broken(esp: Path) -> Path:
    path = esp / "EFI/Linux/b.efi"
    path.write_bytes(b"no PE")
    return path


def elsewhere(esp: Path) -> Path:
    return write(esp / "EFI/Linux/b.efi", sealed_section(ONE))


def not_sealed(esp: Path) -> Path:
    path = esp / "EFI/Linux/b.efi"
    path.write_bytes(Image([LINUX]).build())
    return path


def an_entry(esp: Path) -> Path:
    return entry(esp, "b.conf", "options composefs=ab\n")


def another_entry(esp: Path) -> Path:
    return entry(esp, "b.conf", f"options composefs={ONE.hex}\n")


def gone(esp: Path) -> Path:
    path = esp / "EFI/Linux/b.efi"
    path.symlink_to("gone")
    return path


@pytest.mark.parametrize("make", [broken, elsewhere, not_sealed, an_entry, another_entry, gone])
def test_a_uki_that_cannot_be_read(store: Path, esp: Path, make, capsys: Capture) -> None:  # type: ignore[no-untyped-def]
    """Nothing goes, until somebody says that it is another system's."""
    named = add_image(store, [1, 2])
    add_image(store, [3])
    write(esp / "EFI/Linux/a.efi", sealed_section(as_digest(named)))
    path = make(esp)
    before = tree(store)
    assert gc(store) == (2 if make is gone else 32)
    assert tree(store) == before
    said = capsys.readouterr().err
    assert str(path) in said
    assert f"--except {path}, if it is another system's" in said
    assert gc(store, "--except", path) == 0
    assert whole(store, named)
    assert set(tree(store)) < set(before)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([], "no ESP on its disk, and so no UKI, expected --uki DIR, or --no-uki"),
        (["efi"], "efi: no UKI in it, expected at least one"),
    ],
)
def test_no_uki(
    store: Path, places: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:  # fmt: skip
    (tmp_path / "efi").mkdir()
    found = [tmp_path / place for place in places]
    monkeypatch.setattr(boot_partitions, "find", lambda _: (found, []))
    add_image(store, [1])
    before = tree(store)
    assert gc(store) == 32
    assert said in capsys.readouterr().err
    assert gc(store, "--uki", tmp_path / "efi") == 32
    assert gc(store, "--uki", tmp_path / "gone") == 2
    assert tree(store) == before
    assert gc(store, "--uki", tmp_path / "efi", "--no-uki") == 1
    assert gc(store, "--no-uki") == 0
    assert not tree(store)


def test_ukis_on_one_of_two_partitions(
    store: Path, esp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XBOOTLDR has none; but each place that was named has some."""
    named = add_image(store, [1])
    write(esp / "EFI/Linux/a.efi", sealed_section(as_digest(named)))
    boot = tmp_path / "boot"
    boot.mkdir()
    monkeypatch.setattr(boot_partitions, "find", lambda _: ([esp, boot], []))
    assert gc(store) == 0
    assert gc(store, "--uki", esp, "--uki", boot) == 32


def test_a_partition_that_is_not_mounted(
    store: Path, esp: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    named = add_image(store, [1])
    write(esp / "EFI/Linux/a.efi", sealed_section(as_digest(named)))
    error = Refused("source", "/dev/sda2", "the XBOOTLDR of this disk, and it is not mounted")
    monkeypatch.setattr(boot_partitions, "find", lambda _: ([esp], [error]))
    add_image(store, [2])
    before = tree(store)
    assert gc(store) == 32
    assert tree(store) == before
    assert "/dev/sda2: the XBOOTLDR of this disk" in capsys.readouterr().err
    assert gc(store, "--uki", esp) == 0
    assert whole(store, named)


def test_a_malformed_digest_to_keep(store: Path) -> None:
    assert gc(store, "--no-uki", "--keep", "ab") == 1
    assert gc(store, "--no-uki", "--keep", "ab" * 32) == 32
