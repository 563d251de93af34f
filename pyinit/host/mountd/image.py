# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The image of a name, for a user: whether they may have it, and the mount for them.

systemd composes it once, by cfs-mount@NAME.service, for all who ask. Each gets a clone of that
mount, whose attributes they cannot take away.
"""

from __future__ import annotations

import subprocess

from pyinit.host.mountd import clone
from pyinit.initrd.handover import named_images
from pyinit.initrd.report.errors import CfsError, Step, SystemFailure
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

PLACE = "/run/cfs/images"
"""Where cfs-mount@.service mounts."""
START = ("/usr/bin/systemctl", "start", "--")
SECONDS = 40
"""Until it is mounted."""
ATTRIBUTES = frozenset(("ro", "nosuid", "nodev"))


class NoSuchImage(Exception):
    """None of that name is for users. Whether there is one for root, they are not told."""


class CannotMount(Exception):
    """It is for users, and is not there. The text is for them: what lies where is not in it."""


def give(name: str) -> tuple[Digest, int]:
    """The digest, and a detached mount. NoSuchImage; CannotMount. What the text leaves out is its
    cause, a CfsError."""
    if not payload.is_name(name):
        raise NoSuchImage
    try:
        digest, _, for_users = named_images.find(name)
    except SystemFailure as error:
        raise CannotMount("the system failed") from error
    except CfsError as error:
        raise NoSuchImage from error
    if not for_users:
        raise NoSuchImage
    place = f"{PLACE}/{name}"
    there = _at(place)
    if there is None:
        unit = f"cfs-mount@{name}.service"
        _start(unit)
        there = _at(place)
        if there is None:  # it failed, or has been started before and counts as active
            raise CannotMount(
                f"{unit} has mounted nothing, or it was unmounted since: systemctl restart {unit}"
            )
    # The unit may have mounted what an earlier root named so; root may mount anything there.
    if there.digest != digest or there.verity != "require":
        raise CannotMount("another image is mounted there")
    if not set(there.options) >= ATTRIBUTES:
        raise CannotMount("it is mounted without ro, nosuid or nodev")
    try:
        with Step("attach", place):
            return digest, clone.locked(there.directory)
    except CfsError as error:
        raise CannotMount("no clone of it: this kernel may have no user namespaces") from error


def _at(place: str) -> existing.Existing | None:
    try:
        return existing.at(place)
    except CfsError:  # there is no such directory yet
        return None


def _start(unit: str) -> None:
    try:
        subprocess.run(
            [*START, unit], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False,
            timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:  # of systemctl, not of the unit
        raise CannotMount(f"{unit} has not ended in {SECONDS} s: ask again later") from error
    except OSError as error:
        raise CannotMount(f"{unit} was not started: there is no systemctl") from error
