# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Was this kernel started by another one, which leaves the firmware's variables as they were?

Only what the kernel itself says counts, and no word of its command line: a boot menu can append
`elfcorehdr=`, and would decide that a UKI is not compared.
"""

import posix

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import os_error, printable

BOOT_LOADER = "/proc/sys/kernel/bootloader_type"
"""x86: type_of_loader of the boot protocol, the loader's number in the upper half."""
CORE = "/proc/vmcore"
"""The memory of the kernel before, after a crash (kdump), on every architecture."""
TREE = "/sys/firmware/fdt"
"""Where there is a device tree: the one that this kernel was given, with ACPI too."""

_KEXEC = 0xD  # of kexec_file_load and of kexec-tools, which calls kexec_load
# What kexec_file_load adds to it (drivers/of/kexec.c), as the name of a property.
_MARK = b"\0linux,booted-from-kexec\0"
_TREE_MAX = 16 << 20


def reason() -> str:
    """Why firmware, boot loader and stub have not started this kernel; empty where they have.

    kexec_load on other architectures than x86 leaves no mark, and is not noticed.
    """
    try:
        if _is_there(CORE):
            return "this kernel was started by kexec, after a crash"
        by_kexec = _boot_loader() >> 4 == _KEXEC or _MARK in _read(TREE, _TREE_MAX)
    except (OSError, ValueError) as error:
        text = os_error(error) if isinstance(error, OSError) else str(error)
        return f"it is not known whether kexec started this kernel: {text}"
    return "this kernel was started by kexec" if by_kexec else ""


def _is_there(path: str) -> bool:
    try:
        posix.stat(path)
    except FileNotFoundError:
        return False
    return True


def _boot_loader() -> int:
    """0 where the architecture has none."""
    text = _read(BOOT_LOADER, 64)
    try:
        return int(text) if text else 0
    except ValueError:
        raise ValueError(f"{BOOT_LOADER} is {printable(text.decode('latin-1'))}") from None


def _read(path: str, limit: int) -> bytes:
    """Empty where there is no such file."""
    try:
        return files.read(path, limit)
    except FileNotFoundError:
        return b""
