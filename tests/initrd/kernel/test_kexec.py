# SPDX-License-Identifier: Apache-2.0 OR MIT
"""By files that stand for the kernel's; a kernel that another one has started is in
tests/vm/test_by_firmware.py."""

from pathlib import Path

import pytest

from pyinit.initrd.kernel import kexec


class Kernel:
    """What it says of its start: nothing, until a test writes it."""

    def __init__(self, root: Path) -> None:
        self.loader, self.core, self.tree = root / "loader", root / "vmcore", root / "fdt"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    monkeypatch.setattr(kexec, "BOOT_LOADER", str(made.loader))
    monkeypatch.setattr(kexec, "CORE", str(made.core))
    monkeypatch.setattr(kexec, "TREE", str(made.tree))
    return made


def test_a_firmware(kernel: Kernel) -> None:
    assert kexec.reason() == ""
    # QEMU, GRUB, the kernel's own stub, an older systemd-stub, and one that is none of them
    for number in (0xB0, 0x72, 0x21, 0xFF, 0x0D, 0x1D0):
        kernel.loader.write_text(f"{number}\n")
        assert kexec.reason() == "", hex(number)
    kernel.tree.write_bytes(b"\xd0\x0d\xfe\xed\0bootargs\0linux,booted\0")
    assert kexec.reason() == ""


@pytest.mark.parametrize("number", [0xD0, 0xD1])
def test_by_the_boot_protocol(kernel: Kernel, number: int) -> None:
    kernel.loader.write_text(f"{number}\n")
    assert kexec.reason() == "this kernel was started by kexec"


def test_by_the_device_tree(kernel: Kernel) -> None:
    kernel.tree.write_bytes(b"\xd0\x0d\xfe\xed\0bootargs\0linux,booted-from-kexec\0")
    assert kexec.reason() == "this kernel was started by kexec"
    kernel.tree.write_bytes(b"\xd0\x0d\xfe\xed\0not-linux,booted-from-kexec\0")
    assert kexec.reason() == ""


def test_after_a_crash(kernel: Kernel) -> None:
    kernel.core.touch()
    assert kexec.reason() == "this kernel was started by kexec, after a crash"


def test_what_cannot_be_read_is_not_taken_for_a_firmware(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = "it is not known whether kexec started this kernel: "
    kernel.tree.write_bytes(bytes(9))
    monkeypatch.setattr(kexec, "_TREE_MAX", 8)
    assert kexec.reason() == f"{unknown}More than 8 bytes (EFBIG)"
    kernel.loader.write_bytes(b"\xffx")
    assert kexec.reason() == f"{unknown}{kernel.loader} is \\xffx"
    kernel.loader.unlink()
    kernel.loader.mkdir()
    assert kexec.reason() == f"{unknown}Is a directory (EISDIR)"
    kernel.core.symlink_to(kernel.core)
    assert kexec.reason().startswith(f"{unknown}Too many levels of symbolic links")


def test_the_paths_are_the_kernels() -> None:
    assert (kexec.BOOT_LOADER, kexec.CORE) == ("/proc/sys/kernel/bootloader_type", "/proc/vmcore")
    assert kexec.TREE == "/sys/firmware/fdt"
