# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Drop-ins that have systemd leave alone what belongs to the root.

It takes each mount for one of its units, and stops all but /, /usr and /etc for a soft reboot and
a shutdown: /var is gone under a root that stays, and so is the disk at /sysroot, or they are busy
and the unit fails. These mounts belong to the root and go with it. systemd reads the drop-ins when
it starts.
"""

from pyinit.initrd.handover import status

UNITS = "/run/systemd/system"
_TEXT = """\
# Belongs to the root of cfs-setup-root(8), and stays as long as that.
[Unit]
DefaultDependencies=no
"""


def mounts(record: "dict[str, status.Value]") -> list[str]:
    """What was mounted inside of the root with this record and would be stopped, by its name."""
    found = [] if record.get("var") in (None, "none") else ["var"]
    if record.get("sysroot") in ("read-only", "writable"):
        found.append("sysroot")
    extensions = record.get("extensions")
    for each in extensions.values() if isinstance(extensions, dict) else ():
        place = each.get("mounted") if isinstance(each, dict) else None
        if isinstance(place, str):  # as systemd-escape --path
            found.append(place[1:].replace("-", "\\x2d").replace("/", "-"))
    if extensions:
        # What else systemd would merge is hidden below these (layers.py).
        found += ["etc-extensions", "etc-confexts", "var-lib-extensions", "var-lib-confexts"]
    return found


def write(record: "dict[str, status.Value]") -> None:
    """A drop-in for each; another root's stay, which the running system has. OSError."""
    for name in mounts(record):
        status.write_file(f"{UNITS}/{name}.mount.d/cfs.conf", _TEXT.encode("ascii"))
