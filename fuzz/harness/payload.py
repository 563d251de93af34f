# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that a UKI carries: content of `.cfsdig`."""

from pyinit.host.uki import payload_write
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload


def check(data: bytes) -> None:
    _check_format(data)
    try:
        named = payload.parse(data, "fuzz")
    except Refused as error:
        assert (error.step, error.path) == ("source", "fuzz")
        assert str(error).isprintable()
        return
    # One spelling: what is accepted is what write() writes, padding aside.
    assert payload_write.write(named.roots, named.others) == data.rstrip(b"\0")
    assert len(data) <= payload.MAX
    lines = "".join(f"{line}\n" for line in (payload.FIRST, *named.lines()))
    assert lines.encode() == data.rstrip(b"\0")
    rest = {f"app.{name}": each for name, each in named.apps.items()} | named.extensions
    assert rest | {"initrd": named.others.get("initrd")} == {"initrd": None} | named.others


def _check_format(data: bytes) -> None:
    """Any digests: of one piece of the input each, the first byte says which algorithm, and how
    many of them are beside the root, named by their first bytes. One may be a second initrd."""
    head = data[0] if data else 0
    size, algorithm = (64, 2) if head & 1 else (32, 1)
    pieces = [data[at : at + size] for at in range(1, len(data) - size + 1, size)]
    digests = [Digest(algorithm, piece) for piece in pieces]
    roots, others = digests[head >> 1 & 7 :], digests[: head >> 1 & 7]
    kind = payload.KINDS[(head >> 4) % len(payload.KINDS)]
    named = {f"{kind}." + each.value[:9].decode("latin-1"): each for each in others}
    if head & 0x80 and others:
        named = {"initrd": others[0], **named}
    try:
        written = payload_write.write(roots, named)
    except ValueError:
        return
    found = payload.parse(written, "fuzz")
    assert (found.roots, found.others) == (roots, named)
