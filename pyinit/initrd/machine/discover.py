# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root partition by its type alone (Discoverable Partitions Specification, UAPI.2), where the
command line has no `root=` and the configuration allows it.

It is one of the disk that the machine was booted from: a partition of that type on another disk,
which somebody plugged in, never counts. State may lie on it, so of two none is guessed.
"""

from pyinit.initrd.machine import devices
from pyinit.initrd.machine.devices import NotFound
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# By what uname() says, where machines are booted by EFI.
TYPES = {
    "x86_64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "i686": "44479540-f297-41b2-9af7-d131d5f0458a",
    "aarch64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "armv7l": "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    "riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    "riscv32": "60d5a7fe-8e7d-435c-b714-3dd8162144e1",
    "loongarch64": "77055800-792c-4f94-b39a-98c91b762bb6",
}
_NO_AUTO = 1 << 63  # in the attributes: not to be found by its type
_NONE = "no root= on the kernel command line"


def find(
    machine: str,
    seconds: int,
    each: "Callable[[], object] | None",
    booted: "Callable[[int], tuple[str, str]]",
) -> str:
    """The device node; waits for it, and for the disk, as devices.find() does. Refused("store"),
    devices.NotFound.

    `booted` gives the name in sysfs of the disk that the machine was booted from, or why it is not
    known.
    """
    kind = TYPES.get(machine)
    if kind is None:
        found = f"{_NONE}, and no type of partition is known for {machine}"
        raise Refused("store", "root=", found, devices.EXPECTED)
    disk, why_not = booted(seconds)
    if not disk:
        found = f"{_NONE}, and it is not known which disk was booted from: {why_not}"
        raise NotFound("store", "root=", found)
    path = f"{devices.DEV}/{disk}"
    try:
        table = devices.table(disk)
    except OSError as error:
        raise Refused("store", path, os_error(error)) from None
    except ValueError as error:
        raise Refused("store", path, str(error), "a GPT with a root partition") from None
    places = [
        place
        for place, entry in table.items()
        if entry.kind == kind and not entry.attributes & _NO_AUTO
    ]
    if len(places) != 1:
        numbers = " and ".join(str(number) for number, _ in places)
        which = f"partitions {numbers} have" if places else "no partition without no-auto has"
        raise Refused("store", path, f"{_NONE}, and {which} the type {kind}", "one partition")
    [place] = places
    spec = f"{path}, partition {place[0]}"
    return devices.wait(spec, seconds, each, lambda _: _node(disk, place))


def _node(disk: str, place: tuple[int, int]) -> str | None:
    """That partition, as the kernel has it; None while it has not."""
    for name in devices.names():
        node = devices.uevent(name).get("DEVNAME")
        try:
            if node and devices.disk_of(name) == disk and devices.place(name) == place:
                return devices.node(f"{devices.DEV}/{node}")
        except (OSError, ValueError):
            continue  # gone again, or the disk itself
    return None
