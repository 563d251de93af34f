# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How the disk is asked for; its mounts are in tests/vm."""

import _cfs
import errno
import os
from collections.abc import Callable

import pytest

from pyinit.initrd.kernel import filesystem
from pyinit.initrd.kernel.mounting import NOATIME, NODEV, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.machine import btrfs, devices, named, rootdisk
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report.errors import Refused

Options = list[tuple[str, str | None]]
Booted = Callable[..., tuple[str, str]]


@pytest.fixture
def driverless(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """A machine without disks, one of whose drivers did not load."""
    monkeypatch.setattr(devices, "names", list)
    modules = Modules("/nowhere")
    monkeypatch.setattr(modules, "coldplug", lambda: 0)
    modules.failed = {"virtio\nblk": "Exec format error (ENOEXEC)"}
    return modules


def search(
    modules: Modules | None = None, seconds: int = 0, booted: Booted = lambda _: ("", "")
) -> rootdisk.Search:
    return rootdisk.Search(seconds, modules, booted)


def refusal(root: str, modules: Modules | None) -> str:
    with pytest.raises(Refused) as caught:
        rootdisk.find(root, search(modules))
    return str(caught.value)


def test_a_disk_whose_driver_did_not_load(driverless: Modules) -> None:
    """It was only said to be missing."""
    assert refusal("/dev/vdq", driverless) == (
        "refused: store: /dev/vdq: not found after 0 s; there are: none; "
        r"drivers that did not load: virtio\nblk: Exec format error (ENOEXEC)"
    )
    driverless.failed = {}
    assert refusal("/dev/vdq", driverless).endswith("there are: none")


def test_no_driver_is_blamed_for_a_root_that_nobody_could_find(driverless: Modules) -> None:
    assert "drivers" not in refusal("NAME=root", driverless)


def test_no_root_is_discovered_where_that_is_allowed(driverless: Modules) -> None:
    """With drivers, and with the time of the root device for the booted disk."""

    def booted(seconds: int) -> tuple[str, str]:
        return "", f"no ESP in {seconds} s"

    with pytest.raises(Refused, match="no ESP in 4 s; drivers that did not load: "):
        rootdisk.find("", search(driverless, 4, booted), discovered=True)
    with pytest.raises(Refused, match=r"no ESP in 4 s\Z"):
        rootdisk.find("", search(None, 4, booted), discovered=True)
    with pytest.raises(Refused, match=r"no root= on it, .*; or \[device\] discover = true in the "):
        rootdisk.find("", search(driverless, 4, booted))
    with pytest.raises(Refused, match="/dev/vdq: not found after 0 s"):
        rootdisk.find("/dev/vdq", search(driverless, 0, booted), discovered=True)


@pytest.mark.parametrize("spec", ["LABEL=root", "UUID=1", "PARTLABEL=root", "8:1", "fe01"])
def test_names_are_looked_for_where_no_udev_runs(driverless: Modules, spec: str) -> None:
    assert refusal(spec, driverless).startswith(f"refused: store: {spec}: not found after 0 s")


def test_links_are_taken_where_udev_runs_only(
    driverless: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There no superblock is read: udev has done so."""
    with monkeypatch.context() as patch:
        patch.setattr(named, "find", lambda *_: pytest.fail("looked for"))
        assert "not found after 0 s" in refusal("LABEL=no such label", None)
    assert "a link that udev makes" in refusal("/dev/disk/by-label/none", driverless)


class Kernel:
    """Knows the file systems in `answers`, which say what their mount gives: 0, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: int) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Options, int]] = []
        monkeypatch.setattr("_cfs.fs_mount", self._mount)
        monkeypatch.setattr(filesystem, "of_device", lambda _: "ext4")
        monkeypatch.setattr(btrfs, "scan", self._scan)
        self.scanned: list[tuple[object, ...]] = []

    def _scan(self, *arguments: object, degraded: bool) -> None:
        self.scanned.append((*arguments, degraded))

    def _mount(self, fstype: str, options: Options, attributes: int) -> int:
        self.asked.append((fstype, options, attributes))
        answer = self.answers.get(fstype, errno.ENODEV)
        if answer:
            raise OSError(answer, os.strerror(answer))
        return 77


def test_it_is_mounted_so_that_nothing_on_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=0)
    assert rootdisk.mount("/dev/vda", "", "", search()) == (77, NOEXEC)
    assert kernel.asked == [
        ("ext4", [("ro", None), ("source", "/dev/vda")], RDONLY | NOSUID | NODEV | NOEXEC)
    ]


def test_a_disk_that_others_mount_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they will: this mount of it stays read-only."""
    kernel = Kernel(monkeypatch, ext4=0)
    rootdisk.mount("/dev/vda", "", "", search(), writable=True)
    assert kernel.asked == [
        ("ext4", [("rw", None), ("source", "/dev/vda")], RDONLY | NOSUID | NODEV | NOEXEC)
    ]


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_a_disk_that_is_write_protected(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """As the kernel's own mount of a root, and mount(8), go on."""
    kernel = Kernel(monkeypatch, ext4=0)
    honest = _cfs.fs_mount

    def fs_mount(fstype: str, options: Options, attributes: int) -> int:
        if ("rw", None) in options:
            raise OSError(error, os.strerror(error))
        return honest(fstype, options, attributes)

    monkeypatch.setattr(_cfs, "fs_mount", fs_mount)
    assert rootdisk.mount("/dev/vda", "", "", search(), writable=True) == (77, NOEXEC)
    [(_, options, _)] = kernel.asked
    assert options[0] == ("ro", None)


def test_the_options_of_the_command_line_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, btrfs=0)
    flags = "rw,noatime,subvol=@,degraded,x-initrd.mount,,a="
    assert rootdisk.mount("/dev/vda", "btrfs", flags, search()) == (77, NOEXEC)
    [(fstype, options, attributes)] = kernel.asked
    assert fstype == "btrfs"
    assert options[2:] == [("subvol", "@"), ("degraded", None), ("a", "")]
    assert attributes == rootdisk.HIDDEN | NOATIME


def test_a_wish_for_noexec_holds_for_state_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, ext4=0)
    assert rootdisk.mount("/dev/vda", "", "noexec", search()) == (77, 0)


def test_a_list_of_file_systems_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=errno.EINVAL, btrfs=0)
    loaded: list[str] = []
    modules = Modules("/nowhere")
    monkeypatch.setattr(modules, "load_filesystem", loaded.append)
    assert rootdisk.mount("/dev/vda", "tmpfs,f2fs,,ext4,btrfs", "", search(modules))[0] == 77
    assert [asked[0] for asked in kernel.asked] == loaded == ["f2fs", "ext4", "btrfs"]


def test_a_list_has_what_this_initrd_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel passes over what it does not know; one type alone is refused by its name."""
    Kernel(monkeypatch, ext4=0, btrfs=errno.EINVAL)
    modules = Modules("/nowhere")

    def load(fstype: str) -> None:
        if fstype == "f2fs":
            raise Refused("store", "kernel module f2fs", "not there", "a file")

    monkeypatch.setattr(modules, "load_filesystem", load)
    assert rootdisk.mount("/dev/vda", "f2fs,ext4", "", search(modules))[0] == 77
    with pytest.raises(Refused, match=r"vda: f2fs: kernel module f2fs: not there; btrfs: Invalid"):
        rootdisk.mount("/dev/vda", "f2fs,btrfs", "", search(modules))
    with pytest.raises(Refused, match="store: kernel module f2fs: not there, expected a file"):
        rootdisk.mount("/dev/vda", "f2fs", "", search(modules))


def test_a_disk_that_fails_is_no_reason_to_try_another(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=errno.EIO, btrfs=0)
    with pytest.raises(Refused, match=r"ext4: Input/output error \(EIO\), expected a root"):
        rootdisk.mount("/dev/vda", "ext4,btrfs", "", search())
    assert len(kernel.asked) == 1


def test_options_that_the_kernel_does_not_take_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, ext4=errno.EINVAL)
    with pytest.raises(Refused) as caught:
        rootdisk.mount("/dev/vda", "", "subvol=@", search())
    assert str(caught.value) == (
        "refused: store: /dev/vda: ext4: Invalid argument (EINVAL) (rootflags=subvol=@), "
        "expected a root file system to mount"
    )


@pytest.mark.parametrize("types", ["", "tmpfs"])
def test_no_type_is_found_out(monkeypatch: pytest.MonkeyPatch, types: str) -> None:
    """The second is the kernel's, for its initramfs."""
    kernel = Kernel(monkeypatch, ext4=0)
    rootdisk.mount("/dev/vda", types, "", search())
    assert [asked[0] for asked in kernel.asked] == ["ext4"]


def test_the_other_devices_of_a_btrfs_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, driverless: Modules
) -> None:
    """When its driver is there, for as long as for the first; and of no other file system."""
    kernel = Kernel(monkeypatch, btrfs=0)
    monkeypatch.setattr(driverless, "load_filesystem", lambda _: kernel.scanned.append(("load",)))
    wanted = search(driverless, 7)
    rootdisk.mount("/dev/vda", "f2fs,btrfs", "degraded", wanted)
    scanned = ("/dev/vda", 7, driverless.coldplug, wanted.booted, True)
    assert kernel.scanned == [("load",), ("load",), scanned]
    kernel.scanned.clear()
    for flags in ("subvol=degraded", "degraded="):
        rootdisk.mount("/dev/vda", "btrfs", flags, search(None, 7))
        assert kernel.scanned.pop()[-1] is False


def test_a_device_that_is_missing_is_told_with_the_drivers(
    monkeypatch: pytest.MonkeyPatch, driverless: Modules
) -> None:
    def missing(*_: object, degraded: bool) -> None:
        raise devices.NotFound("store", "/dev/vda", f"degraded: {degraded}")

    Kernel(monkeypatch, btrfs=0)
    monkeypatch.setattr(driverless, "load_filesystem", lambda _: None)
    monkeypatch.setattr(btrfs, "scan", missing)
    with pytest.raises(Refused, match="degraded: False; drivers that did not load: "):
        rootdisk.mount("/dev/vda", "btrfs", "", search(driverless))


def test_nobody_names_the_devices_of_a_btrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be opened by the kernel, whatever they are."""
    kernel = Kernel(monkeypatch, btrfs=0)
    for flag in ("device=/dev/vdb", "device"):
        with pytest.raises(Refused) as caught:
            rootdisk.mount("/dev/vda", "btrfs", f"ro,{flag},subvol=@", search())
        assert str(caught.value).startswith(
            f"refused: store: rootflags=: {flag}, expected no device="
        )
    assert kernel.asked == kernel.scanned == []
