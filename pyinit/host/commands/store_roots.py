# SPDX-License-Identifier: Apache-2.0 OR MIT
"""All that an image may be needed by, asked together: what the store says itself, mounts, records
and UKIs. Store and UKIs do not know each other; here they meet."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pyinit.host.store import mounts, records
from pyinit.host.store.layout import Store
from pyinit.host.store.roots import Needed
from pyinit.host.uki import boot_partitions
from pyinit.host.uki.named import below, none_in
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest


def look(store: Store, options: argparse.Namespace, known: Needed | None = None) -> Needed:
    """Everything that is needed; Needed.unread is what of it could not be read. `options`: ukis,
    no_uki, excepted, keep, as the command line has them. `known`: as of Needed. UsageError: a
    malformed --keep."""
    needed = Needed(store, known)
    # First: a UKI may have an image in it, which the others only name.
    if not options.no_uki:
        _keep_ukis(needed, options.ukis, {_real(path) for path in options.excepted})
    for text in options.keep:
        digest = Digest.parse(text, "--keep")
        if needed.has_image(digest):
            needed.keep_image(digest, "--keep", "asked")
        else:
            needed.unread.append(Refused("store", f"--keep {text}", "no such image in the store"))
    needed.keep_repository()
    records.keep(needed)
    mounts.keep(needed, [os.fspath(path) for path in options.excepted])
    return needed


def _keep_ukis(needed: Needed, given: list[Path], excepted: set[str]) -> None:
    places = given
    if not given:
        places, errors = boot_partitions.find(needed.store.path)
        needed.unread += errors
        if not places and not errors:
            found = "no ESP on its disk, and so no UKI"
            advice = "--uki DIR, or --no-uki"
            needed.unread.append(Refused("source", str(needed.store.path), found, advice))
    without = [place for place in places if not _keep_below(needed, place, excepted)]
    # UKIs may all be on one of ESP and XBOOTLDR; a place that was named has one.
    if given or without == places:
        needed.unread += map(none_in, without)


def _keep_below(needed: Needed, place: Path, excepted: set[str]) -> bool:
    """Was there any?"""
    looked_at = False
    for file, digests, error in below(place, entries=True, hold=needed.hold):
        looked_at = True
        if _real(file) in excepted:
            continue
        here = [digest for digest in digests if needed.has_image(digest)]
        for digest in here:
            needed.keep_image(digest, str(file), "uki")
        if error is not None:
            needed.unread.append(_with_advice(error))
        elif not here:
            found = f"names {digests[0]}, which is not in {needed.store.path}"
            needed.unread.append(_with_advice(Refused("source", str(file), found)))
    return looked_at


def _with_advice(error: CfsError) -> CfsError:
    expected = f"{error.expected}, or " if error.expected else ""
    expected += f"--except {error.path.partition(': ')[0]}, if it is another system's"
    return type(error)(error.step, error.path, error.found, expected)


def _real(path: Path) -> str:
    return os.path.realpath(path)
