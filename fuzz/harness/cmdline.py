# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel command line; what the kernel itself makes of one is tests/vm/test_cmdline.py."""

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source import cmdline

_SPACE = b" \t\n\v\f\r\xa0"


def check(data: bytes) -> None:
    line = cmdline.parse(data)
    _pieces_of(line, data)
    assert not any(name == "--" and value is None for name, value in line.parameters)
    for name, value in line.parameters:
        assert value in line.all(name)
        assert line.has(name.replace("-", "_"))
    for module, parameter in line.of_modules():
        [(name, value)] = cmdline.parse(parameter).parameters
        assert value in line.all(f"{module}.{name}")
    # The end of one line is no part of another.
    before = cmdline.parse(b"composefs.first=1 " + data)
    assert before.parameters == [("composefs.first", "1"), *line.parameters]
    try:
        found = cmdline.digests(line)
    except Refused as error:
        assert str(error).isprintable()
        assert line.has("composefs") or line.has("composefs.digest")
        return
    words = [
        value
        for key, value in line.parameters
        if key == "composefs.digest" or (key == "composefs" and value is not None)
    ]
    # Each is there once, where it is named first, and none is switched off.
    digits = [(value or "").rpartition(":")[2] for value in words]
    assert [digest.hex for digest in found] == list(dict.fromkeys(digits))
    assert not any("?" in (value or "") for value in words)


def _pieces_of(line: cmdline.CommandLine, data: bytes) -> None:
    """All that was found stands in the line, in that order, and only quotes, `=` and white space
    were left out between."""
    at = 0
    data = data.partition(b"\0")[0]
    parts = [part for name, value in line.parameters for part in (name, value)]
    for part in parts:
        if not part:
            continue
        raw = part.encode("utf-8", "surrogateescape")
        found = data.index(raw, at)
        assert not data[at:found].strip(_SPACE + b'"='), (data[at:found], part)
        at = found + len(raw)
