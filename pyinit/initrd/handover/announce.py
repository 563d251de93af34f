# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is left for the booted system, and the line that says what boots."""

from pyinit.initrd.handover import keep, relabel, status, volatile_root
from pyinit.initrd.kernel import selinux
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import os_error
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def announce(name: str, record: "dict[str, status.Value]", settings: Config) -> None:
    """Leaves in /run what the system will want to know, and says one line to stderr.

    The root stays, whatever fails here.
    """
    leave(name, status.PATH, lambda: status.write(record))
    leave(name, status.CONFIG, lambda: status.write_file(status.CONFIG, config.format(settings)))
    leave(name, relabel.LIST, lambda: relabel.write(record))
    leave(name, keep.UNITS, lambda: keep.write(record))
    leave(name, relabel.UNITS, lambda: relabel.leave_units(record))
    apps = record.get("apps")
    if isinstance(apps, dict):  # an empty one too: who could write here before may have left one
        leave(name, status.APPS, lambda: status.write_file(status.APPS, _lines(apps)))
    device = record["device"]
    if settings.volatile_root_link and isinstance(device, str):
        leave(name, volatile_root.LINK, lambda: volatile_root.link(device))
    try:
        say(name, record, "root")
        if record.get("root") == "transient-ro" and selinux.is_on():
            output.err(
                f"{name}: / stays writable until systemd has given it its SELinux labels: then "
                f"{relabel.READ_ONLY} makes it read-only\n"
            )
    except MemoryError:
        output.err("warning: out of memory\n")


def _lines(apps: "dict[str, status.Value]") -> bytes:
    """With digests spelled as the UKI has them."""
    lines = [f"{name}=fsverity-{digest}".replace(":", "-12:") for name, digest in apps.items()]
    return "\n".join([status.APPS_FIRST, *lines, ""]).encode("ascii")


def leave(name: str, path: str, action: "Callable[[], None]") -> None:
    """Runs `action` on `path`. An OSError becomes a warning: the root is composed already, and what
    is left for the booted system must not stop the boot."""
    try:
        action()
    except OSError as error:
        output.err(f"{name}: warning: {path}: {os_error(error)}\n")
    except MemoryError:
        output.err("warning: " + path + ": out of memory\n")


def say(name: str, record: "dict[str, status.Value]", what: str) -> None:
    """Says on stderr which image was mounted, by which source, and what /etc and /var are."""
    said = f"{record['image']} ({record['digest']}, {record['source']})"
    for digest in record["missing_candidates"] or ():  # type: ignore[union-attr]
        output.err(f"{name}: candidate {digest} has no image, going on to the next\n")
    output.err(f"{name}: {what} is {said}, /etc {record['etc']}, /var {record['var']}\n")
