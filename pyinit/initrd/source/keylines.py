# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The shape that payload and compiled configuration share: a first line, then `key=value` lines.

ASCII, LF after every line, no empty line, no control character, no comment, no white space that
is skipped: each content has one spelling, so two readers cannot differ on it.
"""

from pyinit.initrd.report.errors import CfsError


def pairs(
    data: bytes, first: str, error: type[CfsError], step: str, where: str
) -> list[tuple[str, str]]:
    """The keys and values of the lines after `first`, in order. A malformed line raises
    `error(step, where, …)`."""

    def fail(found: str, expected: str = "") -> CfsError:
        return error(step, where, found, expected)

    if not data:
        raise fail("it is empty", f"the line {first!r}")
    lines = data.decode("latin-1").split("\n")
    if not all(line.isascii() and line.isprintable() for line in lines):
        for position, byte in enumerate(data):
            if not (0x20 <= byte <= 0x7E or byte == 0x0A):
                raise fail(f"byte 0x{byte:02x} at offset {position}", "printable ASCII and LF")
    if lines.pop() != "":
        raise fail("the last line has no LF: it may have been cut")
    if lines[0] != first:
        raise fail(f"the first line is {lines[0][:80]!r}", repr(first))
    result = []
    for number, line in enumerate(lines[1:], 2):
        key, equals, value = line.partition("=")
        if not key or not equals:
            raise fail(f"line {number} is {line[:80]!r}", "key=value")
        result.append((key, value))
    return result
