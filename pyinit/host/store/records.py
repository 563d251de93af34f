# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The images that records of the running system name: of the root that runs, of the second initrd
that has started it, of a root that is ready for a soft reboot, and of what bootc has deployed or
staged."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pyinit.host.failure import system_failure
from pyinit.host.store.roots import Needed, digest_of_hex
from pyinit.initrd.handover import named_images, status
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root.digest import Digest

DISK = "/sysroot"
"""Where a sealed root shows its disk."""
STAGED = "/run/composefs/staged-deployment"
# Beside the repository, where bootc has it: /sysroot/composefs and /sysroot/state/deploy/<digest>.
_DEPLOYMENTS = "state/deploy"


def keep(needed: Needed) -> None:
    """Keeps the images that are in the store. Another store's record is not told from one of an
    image that is gone; neither has anything to keep here."""
    ours = (status.PATH, status.INITRD, status.NEXT)
    for path, key in (*((path, "digest") for path in ours), (STAGED, "depl_id")):
        try:
            digests = _read(path, key)
        except CfsError as error:
            needed.unread.append(error)
            continue
        for each in digests:
            if needed.has_image(each):
                needed.keep_image(each, path, "record")
    _look_for_embedded(needed)
    _keep_apps(needed)
    _keep_deployments(needed)


def _look_for_embedded(needed: Needed) -> None:
    """The image of the running root was in a UKI that is there no more: it is in memory alone, and
    nobody can read there what it needs of this store."""
    try:
        with open(status.PATH, "rb") as file:
            record = json.loads(file.read(status.MAX))
        ours = os.path.samefile(DISK + record["store"], needed.store.path)
        embedded = record["embedded"] and record["verity"] == "require"
        digest = Digest.parse(record["digest"], status.PATH)
    except (OSError, ValueError, KeyError, TypeError, CfsError):
        return  # no record, another store's, or one that was told already
    if ours and embedded and not needed.has_image(digest):
        found = f"the image of the running root, {digest}, is in memory alone"
        advice = "its UKI on the ESP; or boot another one, and collect then"
        needed.unread.append(Refused("store", status.PATH, found, advice))


def _keep_apps(needed: Needed) -> None:
    """What the UKI names for the running system, as the boot has left it. It stays for a soft
    reboot."""
    try:
        apps = named_images.of_uki()
    except CfsError as error:
        needed.unread.append(error)
        return
    for each in apps.values():
        if needed.has_image(each):
            needed.keep_image(each, status.APPS, "record")


def _read(path: str, key: str) -> list[Digest]:
    """That of the root, and those of its extensions."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.read(status.MAX))
        texts = [record[key], *(each["digest"] for each in record.get("extensions", {}).values())]
        found = [digest_of_hex(text) or Digest.parse(text, path) for text in texts]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise system_failure(error, path) from None
    except (ValueError, KeyError, TypeError, AttributeError, CfsError) as error:
        found_text = f"a record that cannot be read: {error}"
        raise Refused("source", path, found_text, "one, or none") from None
    return found


def _keep_deployments(needed: Needed) -> None:
    directory = Path(os.path.realpath(needed.store.path)).parent / _DEPLOYMENTS
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        needed.unread.append(system_failure(error, str(directory)))
        return
    for name in names:
        digest = digest_of_hex(name)
        if digest is not None and needed.has_image(digest):
            needed.keep_image(digest, str(directory / name), "record")
