# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a first initrd hands over to the second one: who named the root, how that was checked, and
all that the UKI names.

First line `cfshand1`, then one `key=value` line for each of _FACTS, then the lines of the payload
(payload.py). The file lies in /run, where no disk is mounted. It counts only where the running root
is the image that its `initrd=` line names, composed and verified: in any other initrd, whoever may
add files to it (credentials with tmpfiles.d, an add-on) could name a root.
"""

import errno

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import Refused, Step, os_error, printable
from pyinit.initrd.root import compose
from pyinit.initrd.source import keylines, payload
from pyinit.initrd.source.payload import Payload

PATH = "/run/cfs/first-initrd"
MAX = payload.MAX + 16384

_FIRST = "cfshand1"
_FACTS = ("source", "level", "uki", "secure_boot", "command_line")
_STARTED = "a second initrd that init of a first one has started"


def write(facts: dict[str, str], named: Payload) -> bytes:
    """The content of the file."""
    lines = [_FIRST, *(f"{key}={printable(facts[key])}" for key in _FACTS), *named.lines()]
    return "".join(line + "\n" for line in lines).encode("ascii")


def parse(data: bytes) -> tuple[dict[str, str], Payload]:
    """Refused("source") for anything that write() does not make."""
    pairs = keylines.pairs(data, _FIRST, Refused, "source", PATH)
    count = len(_FACTS)
    if tuple(key for key, _ in pairs[:count]) != _FACTS:
        raise Refused("source", PATH, "other keys", " ".join(_FACTS))
    lines = [payload.FIRST, *(f"{key}={value}" for key, value in pairs[count:])]
    text = "".join(line + "\n" for line in lines)
    return dict(pairs[:count]), payload.parse(text.encode("ascii"), PATH)


def load() -> tuple[dict[str, str], Payload]:
    """Refused("source"): there is none, or this is another initrd than the one that it names."""
    try:
        data = files.read(PATH, MAX)
    except OSError as error:
        raise Refused("source", PATH, os_error(error), _STARTED) from None
    facts, named = parse(data)
    expected = named.others.pop(payload.INITRD, None)
    if expected is None:
        raise Refused("source", PATH, "it names no second initrd", f"{payload.INITRD}=")
    with Step("source", "/"):
        running = compose.mounted_at("/")
    if running != expected:
        found = "no composed image" if running is None else str(running)
        raise Refused("source", "/", found, f"{expected}, as {PATH} has it")
    return facts, named


def is_there() -> bool:
    """For messages."""
    try:
        files.read(PATH, MAX)
    except OSError as error:
        return error.errno != errno.ENOENT
    return True
