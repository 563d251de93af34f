# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that a UKI carries: content of its section and of the file in its initrd.

    cfsdig1
    rootfs=fsverity-sha256-12:<64 lower-case hex digits>
    app.editor=fsverity-sha256-12:<64 lower-case hex digits>
    confext.site=fsverity-sha256-12:<64 lower-case hex digits>
    sysext.debug=fsverity-sha256-12:<64 lower-case hex digits>

Each `rootfs=` line is a candidate, in order of preference. Behind them are extensions and apps, in
the order of their keys. NUL bytes may follow as padding, since PE tools fill sections up. There is
no key that switches a check off, and none is skipped.
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
MAX_EXTENSIONS = 64
APP = "app"
KINDS = (APP, "confext", "sysext")
"""A key is one of these, a dot and a name."""

FIRST = "cfsdig1"
KEY = "rootfs"
_ORDER = "rootfs, and then each other key once, in the order of their bytes"
_ENDINGS = (".confext", ".raw", ".sysext", ".v")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
# The one spelling here: it says the block size, which is part of what is hashed.
PREFIXES = {_cfs.SHA256: "fsverity-sha256-12:", _cfs.SHA512: "fsverity-sha512-12:"}


class Payload:
    """What a payload names. `roots`: at least one candidate, in order of preference. `extensions`:
    by key, as `sysext.debug`, in the order of the keys; apps are among them."""

    __slots__ = ("extensions", "roots")

    def __init__(self, roots: list[Digest], extensions: dict[str, Digest] | None = None) -> None:
        self.roots = roots
        self.extensions = extensions or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    def split(self) -> tuple[dict[str, Digest], dict[str, Digest]]:
        """What the boot composes, by key; and the apps, by name, which the running system may
        mount."""
        composed, apps = {}, {}
        for key, digest in self.extensions.items():
            kind, _, name = key.partition(".")
            if kind == APP:
                apps[name] = digest
            else:
                composed[key] = digest
        return composed, apps

    def __str__(self) -> str:
        """All of it, for messages."""
        named = [f"{key}={digest}" for key, digest in self.extensions.items()]
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
            found.extensions[key] = digest(key, value, where)
            continue
        if last:
            raise Refused("source", where, f"{key} behind {last}", _ORDER)
        root = digest(key, value, where)
        if root in found.roots:
            raise Refused("source", where, f"{root} is there twice")
        found.roots.append(root)
    roots, extensions = len(found.roots), len(found.extensions)
    if not 1 <= roots <= MAX_DIGESTS:
        raise Refused("source", where, f"{roots} digests", f"1 to {MAX_DIGESTS}")
    if extensions > MAX_EXTENSIONS:
        found_text = f"{extensions} extensions and apps"
        raise Refused("source", where, found_text, f"at most {MAX_EXTENSIONS}")
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
    if kind not in KINDS or not is_name(name):
        known = "rootfs, app.NAME, confext.NAME or sysext.NAME"
        raise Refused("source", where, f"unknown key {key[:80]!r}", known)
    if key <= last:
        raise Refused("source", where, f"{key} behind {last}", _ORDER)


def is_name(text: str) -> bool:
    """Can an extension or app have that name? systemd takes some endings off a directory's."""
    if not 0 < len(text) <= 64 or text[0] in "._-" or text.endswith(_ENDINGS):
        return False
    return not text.strip(_LETTERS)
