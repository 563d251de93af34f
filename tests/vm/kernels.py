# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Kernels by the role that they play in the tests: suites move, so none is named by its version.

Which series plays a role today is found in the suites when it is fetched, and printed then.
"""

import os
import re
from collections.abc import Callable

from . import suites
from .apt import PackageError, say
from .suites import Choice, Offered, first_with
from .target import TARGET

REFUSES = "refuses"
"""Too old for a verified root: our program has to say so."""
STABLE = "stable"
"""Debian stable's. It also does what any supported kernel can, as sealing disks."""
NEWEST = "newest"
"""The first one that is newer than stable's."""
MOUNTS = (STABLE, NEWEST)
ROLES = (*MOUNTS, REFUSES)

# CFS_KERNEL=newest in the environment: the newest kernel plays the part of stable's too, so that
# all guests are seen on it.
PLAYED = {"stable": {}, "newest": {STABLE: NEWEST}}[os.environ.get("CFS_KERNEL", "stable")]

# Where each is looked for, in this order.
SUITES = {
    REFUSES: (suites.OLDEST,),
    STABLE: (suites.STABLE,),
    NEWEST: (suites.BACKPORTS, *suites.LATER),
}
META = TARGET.kernel
# overlayfs has verity=require from then on
SUPPORTED = (6, 6)
# Series on which every row of `make matrix` held, and when. One that is not here is tested too,
# but what differs on it fails `make matrix` alone: Linux 7.0 to 7.0.6 had a regression.
SEEN = {"6.1": "2026-11", "6.12": "2026-11", "7.3": "2026-11"}

# What of the tests needs no kernel of the role.
_REST = {
    REFUSES: "all else can be run: pytest -k 'not refuses'",
    STABLE: "without it no disk is sealed; lint and what boots no guest can be run",
    NEWEST: "all else can be run: pytest -k 'not newest'",
}
_PARTS = ("linux-image-", "linux-base-", "linux-binary-", "linux-modules-")


def series(version: str) -> str:
    """ "7.3" of "7.3.4-1~bpo13+1", or of a release as `uname -r` prints it."""
    found = re.match(r"(\d+\.\d+)(?=\D|$)", version)
    if not found:
        raise PackageError(f"{version!r} is no version of a kernel")
    return found.group(1)


def number(version: str) -> tuple[int, ...]:
    """(7, 3): series compare by it."""
    return tuple(map(int, series(version).split(".")))


def seen(version: str) -> bool:
    """Whether the table must hold on it."""
    return series(version) in SEEN


def choose(role: str, offered: Offered) -> Choice:
    """The suite for `role`. PackageError: one line that says what can still be run."""
    try:
        stable = _stable(offered) if role == NEWEST else None
        return first_with(META, SUITES[role], offered, lambda found: _unfit(role, found, stable))
    except PackageError as error:
        raise PackageError(f"kernel {role!r}: {error}; {_REST[role]}") from error


def _stable(offered: Offered) -> str | None:
    try:
        return first_with(META, SUITES[STABLE], offered).version
    except PackageError:
        return None


def _unfit(role: str, version: str, stable: str | None) -> str:
    supported = number(version) >= SUPPORTED
    if role == REFUSES:
        return "which can mount" if supported else ""
    if not supported:
        return "which is too old to mount"
    if role == NEWEST and stable is not None and number(version) <= number(stable):
        return f"no newer series than stable's {stable}"
    return ""


def packages(depends: Callable[[str], list[str]]) -> list[str]:
    """The packages behind the meta package: linux-image-<release>, and where it is split,
    linux-binary-<release> and linux-modules-<release>."""
    found: dict[str, None] = {}
    unseen = [META]
    while unseen:
        parts = [name for name in depends(unseen.pop()) if name.startswith(_PARTS)]
        unseen += [name for name in parts if name not in found]
        found.update(dict.fromkeys(parts))
    return list(found)


def announce(role: str, choice: Choice) -> None:
    """Says what was found, once: when it is fetched."""
    found = series(choice.version)
    known = SEEN.get(found)
    month = f"seen {known}" if known else "never seen before: its differences fail make matrix only"
    say(f"kernel {role}: {choice.version} of {choice.suite} (series {found}, {month})")
