# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The order of our unit, against all units of each systemd and dracut that we support: whoever has
to do with /sysroot comes before it is mounted, after the root is composed, or is in our list."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from . import dracut

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")

MOUNT, GOAL = "sysroot.mount", "initrd-root-fs.target"
OURS = dracut.MODULE / "cfs-setup-root.service"
# Partitions by definitions of the bare disk, before it grows: not in an initrd with ours.
MASKED = "systemd-repart.service"
# They require cfs-failure.service, which lets them start only where the configuration says so.
SHELLS = {"emergency.service", "dracut-emergency.service"}
_CONCERNED = re.compile(r"sysroot|initrd-root-fs[.]target")
# Instances of templates that a generator makes for /sysroot; none of them mentions it.
_INSTANCES = {
    f"{name}@.service": f"{name}@sysroot.service"
    for name in ("systemd-growfs", "systemd-validatefs", "systemd-pcrfs")
}


# Started in every such initrd. Through another unit an order holds only where that one is started.
ALWAYS = {
    "initrd-cleanup.service", "initrd-fs.target", GOAL, "initrd-parse-etc.service",
    "initrd-switch-root.target", "initrd.target", "basic.target", "sysinit.target",
    "systemd-udevd.service", "systemd-udev-trigger.service", "dracut-cmdline.service",
    "dracut-pre-udev.service", "dracut-pre-trigger.service", "dracut-initqueue.service",
    "dracut-pre-mount.service",
}  # fmt: skip


class Orders:
    """Who comes before whom, as unit files say it."""

    def __init__(self) -> None:
        self._later: dict[str, set[str]] = defaultdict(set)

    def add(self, name: str, text: str) -> None:
        for key, value in re.findall(r"^(After|Before)=(.*)$", text, re.MULTILINE):
            for other in value.split():
                first, second = (name, other) if key == "Before" else (other, name)
                self._later[first].add(second)

    def before(self, first: str, second: str, through: Collection[str] | None = None) -> bool:
        """Of itself, or by way of others: `through`, any where that is None."""
        seen: set[str] = set()
        unseen = [first]
        while unseen:
            new = self._later[unseen.pop()] - seen
            seen |= new
            unseen += [name for name in new if through is None or name in through]
        return second in seen


def units(tree: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each, drop-ins too. dracut's are in its modules, and take precedence."""
    for top in ("usr/lib/systemd/system", "usr/lib/dracut/modules.d"):
        for path in sorted((tree / top).rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            name = path.parent.name.removesuffix(".d") if path.suffix == ".conf" else path.name
            if name.endswith((".service", ".target", ".mount", ".socket", ".path")):
                instance = _INSTANCES.get(name, name)
                text = path.read_text()
                yield instance, text.replace("%i", "sysroot") if instance != name else text


@pytest.mark.parametrize(
    "by", [*dracut.EACH, pytest.param(dracut.WITH_TPM, marks=pytest.mark.all_only)]
)
def test_each_unit_that_has_to_do_with_sysroot_has_its_place(by: str) -> None:
    found = [
        (name, text) for name, text in units(dracut.machine(by)) if not name.startswith("cfs-")
    ]  # fmt: skip
    orders = Orders()
    for name, text in (*found, (OURS.name, OURS.read_text())):
        orders.add(name, text)
    concerned = {name for name, text in found if _CONCERNED.search(text)} - {MOUNT, GOAL}
    concerned |= set(_INSTANCES.values()) & {name for name, _ in found}
    assert MASKED in concerned, "nothing was looked at"
    nowhere = [
        name for name in concerned - SHELLS - {MASKED}
        if not orders.before(name, MOUNT, ALWAYS) and not orders.before(OURS.name, name, ALWAYS)
        and f"After={name}\n" not in OURS.read_text()
    ]  # fmt: skip
    assert not nowhere
    # A circle would have systemd leave out a unit, ours perhaps.
    assert not orders.before(OURS.name, OURS.name)
    for name in concerned - {MASKED}:
        assert not (orders.before(OURS.name, name) and orders.before(name, OURS.name)), name
