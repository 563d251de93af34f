# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A file of the sealed root that names an image for the running system:

    cfsimg1
    digest=fsverity-sha256-12:<64 lower-case hex digits>
    store=/srv/composefs
    users=yes

Key lines, each key once. `store` and `users` may be missing. And the list of those that the UKI
names, which the boot leaves: a first line, and lines `name=digest` in their order.
"""

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import keylines, payload

FIRST = "cfsimg1"
MAX = 4096


def parse(data: bytes, where: str) -> tuple[Digest, str, bool]:
    """The digest in it, the store, empty where it has none, and whether users may have the image.
    Refused("source")."""
    found: dict[str, str] = {}
    for key, value in keylines.pairs(data, FIRST, Refused, "source", where):
        if key not in ("digest", "store", "users"):
            expected = "digest, store or users"
            raise Refused("source", where, f"unknown key {key[:80]!r}", expected)
        if key in found:
            raise Refused("source", where, f"{key} is there twice")
        found[key] = value
    store = found.get("store", "")
    if "store" in found and not store.startswith("/"):
        raise Refused("source", where, f"store={store[:160]!r}", "an absolute path")
    users = found.get("users", "no")
    if users not in ("yes", "no"):
        raise Refused("source", where, f"users={users[:80]!r}", "yes or no")
    return payload.digest("digest", found.get("digest", ""), where), store, users == "yes"


def parse_names(data: bytes, first: str, where: str) -> dict[str, Digest]:
    """The digests of a list of names, whose first line is this. Refused("source")."""
    found: dict[str, Digest] = {}
    last = ""
    for name, value in keylines.pairs(data, first, Refused, "source", where):
        if name <= last or not payload.is_name(name):
            expected = "names of images, each once and in order"
            raise Refused("source", where, repr(name[:80]), expected)
        found[name] = payload.digest(name, value, where)
        last = name
    return found
