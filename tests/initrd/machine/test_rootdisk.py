# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How the disk is asked for; its mounts are in tests/vm."""

import errno
import os

import pytest

from pyinit.initrd.kernel import filesystem
from pyinit.initrd.kernel.mounting import NOATIME, NODEV, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.machine import devices, rootdisk
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report.errors import Refused

Options = list[tuple[str, str | None]]


@pytest.fixture
def driverless(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """A machine without disks, one of whose drivers did not load."""
    monkeypatch.setattr(devices, "names", list)
    modules = Modules("/nowhere")
    monkeypatch.setattr(modules, "coldplug", lambda: 0)
    modules.failed = {"virtio\nblk": "Exec format error (ENOEXEC)"}
    return modules


def refusal(root: str, modules: Modules | None) -> str:
    with pytest.raises(Refused) as caught:
        rootdisk.find(root, 0, modules, lambda: ("", ""))
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
        rootdisk.find("", 4, driverless, booted, discovered=True)
    with pytest.raises(Refused, match=r"no ESP in 4 s\Z"):
        rootdisk.find("", 4, None, booted, discovered=True)
    with pytest.raises(Refused, match=r"no root= on it, .*; or \[device\] discover = true in the "):
        rootdisk.find("", 4, driverless, booted)
    with pytest.raises(Refused, match="/dev/vdq: not found after 0 s"):
        rootdisk.find("/dev/vdq", 0, driverless, booted, discovered=True)


@pytest.mark.parametrize("spec", ["LABEL=root", "UUID=1", "PARTLABEL=root", "8:1", "fe01"])
def test_names_are_looked_for_where_no_udev_runs(driverless: Modules, spec: str) -> None:
    assert refusal(spec, driverless).startswith(f"refused: store: {spec}: not found after 0 s")


def test_links_are_taken_where_udev_runs_only(driverless: Modules) -> None:
    assert "not found after 0 s" in refusal("LABEL=no such label", None)
    assert "a link that udev makes" in refusal("/dev/disk/by-label/none", driverless)


class Kernel:
    """Knows the file systems in `answers`, which say what their mount gives: 0, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: int) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Options, int]] = []
        monkeypatch.setattr("_cfs.fs_mount", self._mount)
        monkeypatch.setattr(filesystem, "of_device", lambda _: "ext4")

    def _mount(self, fstype: str, options: Options, attributes: int) -> int:
        self.asked.append((fstype, options, attributes))
        answer = self.answers.get(fstype, errno.ENODEV)
        if answer:
            raise OSError(answer, os.strerror(answer))
        return 77


def test_it_is_mounted_so_that_nothing_on_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=0)
    assert rootdisk.mount("/dev/vda", "", "", None) == (77, NOEXEC)
    assert kernel.asked == [
        ("ext4", [("ro", None), ("source", "/dev/vda")], RDONLY | NOSUID | NODEV | NOEXEC)
    ]


def test_the_options_of_the_command_line_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, btrfs=0)
    flags = "rw,noatime,subvol=@,degraded,x-initrd.mount,,a="
    assert rootdisk.mount("/dev/vda", "btrfs", flags, None) == (77, NOEXEC)
    [(fstype, options, attributes)] = kernel.asked
    assert fstype == "btrfs"
    assert options[2:] == [("subvol", "@"), ("degraded", None), ("a", "")]
    assert attributes == rootdisk.HIDDEN | NOATIME


def test_a_wish_for_noexec_holds_for_state_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, ext4=0)
    assert rootdisk.mount("/dev/vda", "", "noexec", None) == (77, 0)


def test_a_list_of_file_systems_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=errno.EINVAL, btrfs=0)
    loaded: list[str] = []
    modules = Modules("/nowhere")
    monkeypatch.setattr(modules, "load_filesystem", loaded.append)
    assert rootdisk.mount("/dev/vda", "tmpfs,f2fs,,ext4,btrfs", "", modules)[0] == 77
    assert [asked[0] for asked in kernel.asked] == loaded == ["f2fs", "ext4", "btrfs"]


def test_a_disk_that_fails_is_no_reason_to_try_another(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, ext4=errno.EIO, btrfs=0)
    with pytest.raises(Refused, match=r"ext4: Input/output error \(EIO\), expected a root"):
        rootdisk.mount("/dev/vda", "ext4,btrfs", "", None)
    assert len(kernel.asked) == 1


def test_options_that_the_kernel_does_not_take_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, ext4=errno.EINVAL)
    with pytest.raises(Refused) as caught:
        rootdisk.mount("/dev/vda", "", "subvol=@", None)
    assert str(caught.value) == (
        "refused: store: /dev/vda: ext4: Invalid argument (EINVAL) (rootflags=subvol=@), "
        "expected a root file system to mount"
    )


@pytest.mark.parametrize("types", ["", "tmpfs"])
def test_no_type_is_found_out(monkeypatch: pytest.MonkeyPatch, types: str) -> None:
    """The second is the kernel's, for its initramfs."""
    kernel = Kernel(monkeypatch, ext4=0)
    rootdisk.mount("/dev/vda", types, "", None)
    assert [asked[0] for asked in kernel.asked] == ["ext4"]
