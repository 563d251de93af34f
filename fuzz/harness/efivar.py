# SPDX-License-Identifier: Apache-2.0 OR MIT
"""EFI variables: attributes, UTF-16 text, SecureBoot."""

from pyinit.initrd.source import efivar


def check(data: bytes) -> None:
    attributes = efivar.VOLATILE.to_bytes(4, "little")
    value: bytes | None = None
    try:
        value = efivar.parse(data)
    except ValueError:
        assert data[:4] != attributes
    assert value is None or attributes + value == data
    try:
        text = efivar.text(data)
    except ValueError:
        assert value is None or not _is_text(value)
    else:
        assert "\0" not in text
        assert attributes + text.encode("utf-16-le") + b"\0\0" == data
    try:
        on = efivar.secure_boot(data)
    except ValueError:
        assert value not in (b"\0", b"\1")
    else:
        assert data == attributes + bytes([on])


def _is_text(value: bytes) -> bool:
    """By the codec, which the initrd lacks."""
    try:
        text = value.decode("utf-16-le")
    except UnicodeDecodeError:
        return False
    return "\0" in text and text.index("\0") == len(text) - 1
