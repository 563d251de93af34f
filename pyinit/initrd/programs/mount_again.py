# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What mount(8) asks of a root that is mounted: to be there already, or other attributes of it."""

import _cfs
import errno

from pyinit.initrd.kernel.mounting import RDONLY, SETATTR, open_directory
from pyinit.initrd.programs.mount_options import RESTRICTIONS, MountOptions
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, failure, os_error, printable
from pyinit.initrd.root import existing
from pyinit.initrd.root.existing import Existing


def check_same(wanted: MountOptions, there: Existing) -> None:
    """Refused("attach") unless it is the image that is wanted, with the upper layer that is wanted.

    To remount, only what is said has to be the same.
    """
    found = f"{there.digest} is mounted there already"
    if wanted.digest is None:
        pass
    elif wanted.digest != there.digest:
        raise Refused("attach", wanted.target, found, str(wanted.digest))
    elif wanted.verity == "require" and there.verity != "require":
        raise Refused("attach", wanted.target, f"{found}, unchecked", "verity=require")
    if wanted.upperdir is None:
        if there.upper is not None and not wanted.remount:
            raise Refused("attach", wanted.target, f"{found}, with an upper layer", "none")
        return
    expected = f"the upper directory {wanted.upperdir}"
    if there.upper is None:
        raise Refused("attach", wanted.target, f"{found}, without an upper layer", expected)
    if there.upper != existing.name(open_directory(wanted.upperdir)):
        raise Refused("attach", wanted.target, f"{found}, with another upper directory", expected)


def warn_of_attributes(name: str, wanted: MountOptions, there: Existing) -> None:
    """Nothing is changed where it is mounted already, as mount(8) has it. Who asked for less rights
    than it has is told."""
    lacks = [
        word
        for word, bit in RESTRICTIONS.items()
        if wanted.attributes & bit and word not in there.options
    ]
    if lacks:
        words = ",".join(lacks)
        text = f"{wanted.target} is mounted already, without {words}: mount -o remount,{words}"
        output.err(printable(f"{name}: warning: {text}") + "\n")


def remount(name: str, wanted: MountOptions) -> str:
    """Sets the attributes of the mount that is there, and says what it has done. What is no
    attribute has to be as it is: Refused("attach")."""
    there = existing.at(wanted.target)
    if there is None:
        expected = "one to remount: mount it without remount"
        raise Refused("attach", wanted.target, "no composed root is mounted there", expected)
    check_same(wanted, there)
    changes, cleared = wanted.attributes, wanted.cleared
    if wanted.writable is False:
        changes |= RDONLY
    elif there.upper is not None:
        wanted.check_written()
        cleared |= RDONLY if wanted.writable else 0
    elif wanted.writable and not changes | cleared:
        # mount(8) says rw where nobody said ro. Here nothing else was said.
        text = "stays read-only: it has no upper layer; mount it anew, with upperdir= and workdir="
        output.err(printable(f"{name}: {wanted.target} {text}") + "\n")
    if not wanted.dry_run:
        _set(there.directory, wanted.target, changes, cleared)
    done = "would be remounted" if wanted.dry_run else "remounted"
    return f"{wanted.target} ({there.digest}) {done}"


def _set(directory: int, target: str, changes: int, cleared: int) -> None:
    try:
        _cfs.mount_set(directory, changes, cleared, False)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise failure("attach", target, error, needs=SETATTR) from None
        found = f"files there are open for writing: {os_error(error)}"
        raise Refused("attach", target, found, f"none (fuser -vm {target} names who)") from None
