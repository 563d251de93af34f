# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A file of the sealed root that names an image."""

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source import image_list


def check(data: bytes) -> None:
    try:
        digest, store, users = image_list.parse(data, "fuzz")
    except Refused as error:
        assert (error.step, error.path) == ("source", "fuzz")
        assert str(error).isprintable()
        return
    # One spelling of what it says, but for the order of the three, and users=no.
    bits = {1: 256, 2: 512}[digest.algorithm]
    lines = {f"digest=fsverity-sha{bits}-12:{digest.hex}"} | (
        {f"store={store}"} if store else set()
    )
    first, *others = data.decode("ascii").removesuffix("\n").split("\n")
    assert first == "cfsimg1"
    assert {line for line in others if line != "users=no"} == lines | (
        {"users=yes"} if users else set()
    )
    assert len(others) == len(set(others))
    assert not store or store[0] == "/"
