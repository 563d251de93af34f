# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is left in /run/cfs for the running system.

root.json is the status record: what was mounted, from which source, checked how. nextroot.json is
that of a root prepared for a soft reboot. setup-root.conf is the configuration that the initrd
went by: a later preparation goes by the same, and not by what a disk says."""

import posix

DIRECTORY = "/run/cfs"
PATH = DIRECTORY + "/root.json"
NEXT = DIRECTORY + "/nextroot.json"
CONFIG = DIRECTORY + "/setup-root.conf"
MAX = 65536
"""Bytes of a record that are read again."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Value = str | int | None | list["Value"] | dict[str, "Value"]


def to_json(value: "Value") -> str:
    """The record as JSON: ASCII, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return "{" + ", ".join(f"{to_json(key)}: {to_json(item)}" for key, item in value.items()) + "}"


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
    """Writes a file below DIRECTORY, whole or not at all. OSError: it could not."""
    for directory in ("/run", DIRECTORY):
        try:
            posix.mkdir(directory, 0o755)
        except FileExistsError:
            pass
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
