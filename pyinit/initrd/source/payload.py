# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that a UKI carries: content of its section and of the file in its initrd.

    cfsdig1
    rootfs=fsverity-sha256-12:<64 lower-case hex digits>
    app.editor=fsverity-sha256-12:<64 lower-case hex digits>
    confext.site=fsverity-sha256-12:<64 lower-case hex digits>
    initrd=fsverity-sha256-12:<64 lower-case hex digits>
    sysext.debug=fsverity-sha256-12:<64 lower-case hex digits>

Each `rootfs=` line is a candidate, in order of preference. Behind them are the other images, in the
order of their keys: apps, a second initrd and extensions. NUL bytes may follow as padding, since PE
tools fill sections up. There is no key that switches a check off, and none is skipped.
"""

import _cfs

from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import keylines

CARRIED = "/usr/lib/composefs/rootfs.digest"
SECTION = ".cfsdig"
MAX = 16384
"""Bytes, padding included."""
MAX_DIGESTS = 32
MAX_OTHERS = 64
KINDS = ("app", "confext", "sysext")
"""Of what has a name: a key is one of these, a dot and the name."""
INITRD = "initrd"
"""The key of the second initrd."""

FIRST = "cfsdig1"
KEY = "rootfs"
_ORDER = "rootfs, and then each other key once, in the order of their bytes"
_ENDINGS = (".confext", ".raw", ".sysext", ".v")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
# The one spelling here: it says the block size, which is part of what is hashed.
PREFIXES = {_cfs.SHA256: "fsverity-sha256-12:", _cfs.SHA512: "fsverity-sha512-12:"}


class Payload:
    """What a payload names. `roots`: at least one candidate, in order of preference. `others`: by
    key, as `sysext.debug`, in the order of the keys."""

    __slots__ = ("others", "roots")

    def __init__(self, roots: list[Digest], others: dict[str, Digest] | None = None) -> None:
        self.roots = roots
        self.others = others or {}

    @property
    def extensions(self) -> dict[str, Digest]:
        """What the boot composes beside the root, by key."""
        kinds = ("confext.", "sysext.")
        return {key: value for key, value in self.others.items() if key.startswith(kinds)}

    @property
    def apps(self) -> dict[str, Digest]:
        """What the running system may mount, by name."""
        return {key[4:]: value for key, value in self.others.items() if key.startswith("app.")}

    def lines(self) -> list[str]:
        """As parse() takes them, without the first."""
        pairs = [*((KEY, digest) for digest in self.roots), *self.others.items()]
        return [f"{key}={PREFIXES[digest.algorithm]}{digest.hex}" for key, digest in pairs]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """All of it, for messages."""
        named = [f"{key}={digest}" for key, digest in self.others.items()]
        return " ".join([*map(str, self.roots), *named])


def parse(data: bytes, where: str) -> Payload:
    """At least one root, none of them twice. Refused("source", where, …) for anything else."""
    if len(data) > MAX:
        raise Refused("source", where, f"{len(data)} bytes", f"at most {MAX}")
    body = data.rstrip(b"\0")
    if data and not body:
        raise Refused("source", where, f"{len(data)} NUL bytes and nothing else")
    found = Payload([])
    last = ""
    for key, value in keylines.pairs(body, FIRST, Refused, "source", where):
        if key != KEY:
            _check_key(key, last, where)
            last = key
            found.others[key] = digest(key, value, where)
            continue
        if last:
            raise Refused("source", where, f"{key} behind {last}", _ORDER)
        root = digest(key, value, where)
        if root in found.roots:
            raise Refused("source", where, f"{root} is there twice")
        found.roots.append(root)
    roots, others = len(found.roots), len(found.others)
    if not 1 <= roots <= MAX_DIGESTS:
        raise Refused("source", where, f"{roots} digests", f"1 to {MAX_DIGESTS}")
    if others > MAX_OTHERS:
        raise Refused("source", where, f"{others} images beside the root", f"at most {MAX_OTHERS}")
    return found


def digest(key: str, value: str, where: str) -> Digest:
    """In the one spelling of these lists. Refused("source")."""
    if not value.startswith(tuple(PREFIXES.values())):
        expected = " or ".join(PREFIXES.values())
        raise Refused("source", where, f"{key}={value[:160]!r}", f"{expected} and hex digits")
    try:
        return Digest.parse(value, where)
    except UsageError as error:
        raise Refused("source", where, error.found, error.expected) from None


def _check_key(key: str, last: str, where: str) -> None:
    kind, _, name = key.partition(".")
    if key != INITRD and (kind not in KINDS or not is_name(name)):
        known = "rootfs, app.NAME, confext.NAME, initrd or sysext.NAME"
        raise Refused("source", where, f"unknown key {key[:80]!r}", known)
    if key <= last:
        raise Refused("source", where, f"{key} behind {last}", _ORDER)


def is_name(text: str) -> bool:
    """Can an extension or app have that name? systemd takes some endings off a directory's."""
    if not 0 < len(text) <= 64 or text[0] in "._-" or text.endswith(_ENDINGS):
        return False
    return not text.strip(_LETTERS)
