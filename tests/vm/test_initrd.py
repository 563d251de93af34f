# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds: the modules with what they depend on, and nothing that a product's must not have."""

import lzma
import stat
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import Entry, read_cpio

from .cases import Case, run_cases
from .initrd import boot_initrd, module_entries
from .toolbox import Kernel, Toolbox

pytestmark = pytest.mark.vm


def _kernel(directory: Path) -> Kernel:
    """Of modules a -> b -> c, an unrelated d and a built-in e."""
    modules = directory / "modules"
    modules.mkdir()
    for name in "abcd":
        (modules / f"{name}-x.ko.xz").write_bytes(lzma.compress(name.encode()))
    (modules / "modules.dep").write_text(
        "a-x.ko.xz: b-x.ko.xz c-x.ko.xz\nb-x.ko.xz: c-x.ko.xz\nc-x.ko.xz:\nd-x.ko.xz:\n"
    )
    (modules / "modules.alias").write_text("# Aliases\nalias pci:a* a_x\nalias pci:d* d_x\n")
    (modules / "modules.softdep").write_text("softdep c_x pre: sha512\nsoftdep d_x pre: c_x\n")
    (modules / "modules.builtin").write_text("kernel/e.ko\n")
    return Kernel("1.0", directory / "vmlinuz", modules)


def _contents(entries: list[Entry]) -> dict[str, bytes]:
    return {
        entry.name.removeprefix("usr/lib/modules/1.0/"): entry.data
        for entry in entries
        if stat.S_ISREG(entry.mode)
    }


def test_modules_with_dependencies(tmp_path: Path) -> None:
    found = _contents(module_entries(_kernel(tmp_path), ["a-x", "e"]))
    assert list(found)[:3] == ["c-x.ko", "b-x.ko", "a-x.ko"]
    assert found["a-x.ko"] == b"a"
    assert found["modules.dep"] == b"c-x.ko:\nb-x.ko: c-x.ko\na-x.ko: b-x.ko c-x.ko\n"
    assert found["modules.alias"] == b"alias pci:a* a_x\n"
    assert found["modules.softdep"] == b"softdep c_x pre: sha512\n"


def test_unknown_module(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no module 'f'"):
        module_entries(_kernel(tmp_path), ["f"])


def test_boot_initrd_has_one_program(tmp_path: Path) -> None:
    kernel = _kernel(tmp_path)
    init = tmp_path / "cfs-init"
    init.write_bytes(b"program")
    files = {"usr/lib/composefs/rootfs.digest": b"digest"}
    made = boot_initrd(kernel, init, modules=["a_x"], files=files)
    entries, end = read_cpio(made)
    assert end <= len(made)
    programs = [entry.name for entry in entries if stat.S_ISREG(entry.mode) and entry.mode & 0o111]
    assert programs == ["init"]
    assert _contents(entries)["usr/lib/composefs/rootfs.digest"] == b"digest"
    assert made == boot_initrd(kernel, init, modules=["a_x"], files=files)


def test_modules_not_loaded_at_boot_come_on_demand(toolbox: Toolbox) -> None:
    """By the kernel's own request, through modprobe in the guest."""
    script = "grep -w erofs /proc/filesystems && exit 9; mount -t erofs /dev/null /mnt; "
    results = run_cases(
        toolbox,
        toolbox.kernel("stable"),
        [Case("demand", f"{script} grep -w erofs /proc/filesystems", stdout="erofs")],
        load=["virtio_blk"],
    )
    results.check("demand")
