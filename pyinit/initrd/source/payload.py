# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that a UKI carries: content of its section and of the file in its initrd.

    cfsdig1
    rootfs=fsverity-sha256-12:<64 lower-case hex digits>

Each `rootfs=` line is a candidate, in order of preference. NUL bytes may follow as padding, since
PE tools fill sections up. There is no key that switches a check off, and none is skipped.
"""

import _cfs

from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import keylines

CARRIED = "/usr/lib/composefs/rootfs.digest"
SECTION = ".cfsdig"
MAX = 4096
"""Bytes, padding included."""
MAX_DIGESTS = 32

_FIRST = "cfsdig1"
_KEY = "rootfs"
# The one spelling here: it says the block size, which is part of what is hashed.
_PREFIXES = {_cfs.SHA256: "fsverity-sha256-12:", _cfs.SHA512: "fsverity-sha512-12:"}


def parse(data: bytes, where: str) -> list[Digest]:
    """At least one digest, no two equal. Refused("source", where, …) for anything else."""
    if len(data) > MAX:
        raise Refused("source", where, f"{len(data)} bytes", f"at most {MAX}")
    body = data.rstrip(b"\0")
    if data and not body:
        raise Refused("source", where, f"{len(data)} NUL bytes and nothing else")
    digests: list[Digest] = []
    for key, value in keylines.pairs(body, _FIRST, Refused, "source", where):
        if key != _KEY:
            raise Refused("source", where, f"unknown key {key[:80]!r}", repr(_KEY))
        if not value.startswith(tuple(_PREFIXES.values())):
            expected = " or ".join(_PREFIXES.values())
            raise Refused("source", where, f"{_KEY}={value[:160]!r}", f"{expected} and hex digits")
        try:
            digest = Digest.parse(value, where)
        except UsageError as error:
            raise Refused("source", where, error.found, error.expected) from None
        if digest in digests:
            raise Refused("source", where, f"{digest} is there twice")
        digests.append(digest)
    if not 1 <= len(digests) <= MAX_DIGESTS:
        raise Refused("source", where, f"{len(digests)} digests", f"1 to {MAX_DIGESTS}")
    return digests


def format(digests: list[Digest]) -> bytes:
    """The bytes that parse() reads. ValueError where no such bytes exist."""
    if not 1 <= len(digests) <= MAX_DIGESTS or len(set(digests)) != len(digests):
        raise ValueError(f"{len(digests)} digests: 1 to {MAX_DIGESTS} different ones are possible")
    lines = [f"{_KEY}={_PREFIXES[digest.algorithm]}{digest.hex}\n" for digest in digests]
    data = "".join([_FIRST, "\n", *lines]).encode("ascii")
    if len(data) > MAX:
        raise ValueError(f"{len(data)} bytes: at most {MAX} are possible")
    return data
