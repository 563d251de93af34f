# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A file of the sealed root that names an image, or the list of those that the UKI names."""

from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import image_list


def check(data: bytes) -> None:
    if data.startswith(b"cfsapp"):
        check_names(data)
        return
    try:
        digest, store, users = image_list.parse(data, "fuzz")
    except Refused as error:
        assert (error.step, error.path) == ("source", "fuzz")
        assert str(error).isprintable()
        return
    # One spelling of what it says, but for the order of the three, and users=no.
    lines = {f"digest={prefixed(digest)}"} | ({f"store={store}"} if store else set())
    first, *others = data.decode("ascii").removesuffix("\n").split("\n")
    assert first == "cfsimg1"
    assert {line for line in others if line != "users=no"} == lines | (
        {"users=yes"} if users else set()
    )
    assert len(others) == len(set(others))
    assert not store or store[0] == "/"


def check_names(data: bytes) -> None:
    try:
        found = image_list.parse_names(data, "cfsapp1", "fuzz")
    except Refused as error:
        assert (error.step, error.path) == ("source", "fuzz")
        assert str(error).isprintable()
        return
    assert list(found) == sorted(found)
    lines = [f"{name}={prefixed(digest)}\n" for name, digest in found.items()]
    assert "".join(["cfsapp1\n", *lines]).encode("ascii") == data


def prefixed(digest: Digest) -> str:
    return f"fsverity-sha{256 * digest.algorithm}-12:{digest.hex}"
