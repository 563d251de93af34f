# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digests that a UKI carries: content of `.cfsdig`."""

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload


def check(data: bytes) -> None:
    _check_format(data)
    try:
        digests = payload.parse(data, "fuzz")
    except Refused as error:
        assert (error.step, error.path) == ("source", "fuzz")
        assert str(error).isprintable()
        return
    # One spelling: what is accepted is what format() writes, padding aside.
    assert payload.format(digests) == data.rstrip(b"\0")
    assert len(data) <= payload.MAX


def _check_format(data: bytes) -> None:
    """Any digests: of one piece of the input each, the first byte says which algorithm."""
    size, algorithm = (64, 2) if data[:1] and data[0] & 1 else (32, 1)
    pieces = [data[at : at + size] for at in range(1, len(data) - size + 1, size)]
    digests = [Digest(algorithm, piece) for piece in pieces]
    try:
        written = payload.format(digests)
    except ValueError:
        return
    assert payload.parse(written, "fuzz") == digests
