# SPDX-License-Identifier: Apache-2.0 OR MIT
"""EFI variables as efivarfs shows them: 4 bytes of attributes (little-endian), then the data.

All that is read here was written by firmware, boot loader or stub, or by whoever could run code
there: a value is a hint, and one that is not exactly as its writer makes it is no value.
"""

from pyinit.initrd.kernel import utf16

LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
MAX = 8192
"""Bytes of a variable that are read; paths and UUIDs need less."""

# Boot service and runtime access, and not non-volatile: set anew in each boot, which a variable
# planted from a running system (that one has to be non-volatile) is not.
VOLATILE = 0x2 | 0x4


def parse(data: bytes, attributes: int = VOLATILE) -> bytes:
    """The data of a variable with exactly these attributes; ValueError says what is wrong."""
    if len(data) < 4:
        raise ValueError(f"{len(data)} bytes: shorter than its attributes")
    found = int.from_bytes(data[:4], "little")
    if found != attributes:
        raise ValueError(f"attributes 0x{found:x}, not 0x{attributes:x}")
    return data[4:]


def text(data: bytes) -> str:
    """A volatile variable that is UTF-16LE with its one NUL at the end. ValueError, as parse()."""
    value = parse(data)
    if len(value) % 2:
        raise ValueError(f"{len(value)} bytes: not UTF-16")
    if value[-2:] != b"\0\0":
        raise ValueError("no NUL at the end")
    decoded = utf16.decode(value[:-2])
    if "\0" in decoded:
        raise ValueError("a NUL in the middle")
    return decoded


def secure_boot(data: bytes) -> bool:
    """Of the variable SecureBoot (UEFI 3.3: one byte, 0 or 1). ValueError, as parse()."""
    value = parse(data)
    if value not in (b"\0", b"\1"):
        raise ValueError(f"{value[:8].hex()} ({len(value)} bytes), not one byte 0 or 1")
    return value == b"\1"
