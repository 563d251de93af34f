# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is left in /run/cfs for the running system.

root.json is the status record: what was mounted, from which source, checked how. nextroot.json is
that of a root prepared for a soft reboot. setup-root.conf is the configuration that the initrd
went by: a later preparation goes by the same, and not by what a disk says. apps has the images that
the UKI names for the running system: named_images.py reads it. initrd.json is the record of a
second initrd.
"""

import posix

from pyinit.initrd.kernel import files

DIRECTORY = "/run/cfs"
PATH = DIRECTORY + "/root.json"
NEXT = DIRECTORY + "/nextroot.json"
INITRD = DIRECTORY + "/initrd.json"
CONFIG = DIRECTORY + "/setup-root.conf"
APPS = DIRECTORY + "/apps"
APPS_FIRST = "cfsapp1"
MAX = 65536
"""Bytes of a record that are read again."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Value = str | int | None | list["Value"] | Mapping[str, "Value"]


def to_json(record: "dict[str, Value]") -> str:
    """The readable() record as JSON: ASCII, on one line."""
    return _json(readable(record))


def readable(record: "dict[str, Value]") -> "dict[str, Value]":
    """The record with characters only, as a strict reader of JSON wants them.

    Names of files are bytes. Where some are no UTF-8 the record says so: `escaped` lists the keys
    that have such names, and in all strings there `\\xHH` is a byte and `\\\\` a backslash.
    """
    escaped: list[Value] = [key for key, value in record.items() if _is_bytes(value)]
    if not escaped:
        return record
    shown = {key: _escape(value) if key in escaped else value for key, value in record.items()}
    return {**shown, "escaped": escaped}


def _json(value: "Value") -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and not {'"', "\\"} & set(value)
        return '"' + (value if plain else "".join(map(_character, value))) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return "{" + ", ".join(f"{_json(key)}: {_json(item)}" for key, item in value.items()) + "}"


def _is_bytes(value: "Value") -> bool:
    """Is there a string that is no text? Half of a surrogate pair stands for a byte (os.fsdecode),
    or for what an EFI variable has."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= part <= "\udfff" for part in value)
    if isinstance(value, list):
        return any(map(_is_bytes, value))
    if isinstance(value, dict):
        return any(_is_bytes(key) or _is_bytes(item) for key, item in value.items())
    return False


def _escape(value: "Value") -> "Value":
    if isinstance(value, str):
        return "".join(map(_byte, value))
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if isinstance(value, dict):
        return {"".join(map(_byte, key)): _escape(item) for key, item in value.items()}
    return value


def _byte(character: str) -> str:
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character


def _character(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if 0x20 <= code < 0x7F:
        return character
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def write(record: dict[str, "Value"], path: str = "") -> None:
    """Writes the record to PATH or another path, whole or not at all. OSError: it could not."""
    write_file(path or PATH, (to_json(record) + "\n").encode("ascii"))


def write_file(path: str, data: bytes) -> None:
    """Writes a file below /run, whole or not at all. OSError: it could not."""
    files.make_parents(path)
    temporary = path + ".new"
    try:
        _write(temporary, data)
        posix.rename(temporary, path)
    except BaseException:
        try:
            posix.unlink(temporary)
        except OSError:
            pass  # it was not there, or stays: the next run writes over it
        raise


def _write(temporary: str, data: bytes) -> None:
    fd = posix.open(
        temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o444
    )
    try:
        while data:  # a full file system takes a part before it says so
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)
