# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What lies in memory gets its SELinux labels from the systemd of the root.

A tmpfs that was mounted before the policy has no labels: all in it is tmpfs_t, and so is a file of
an overlay above it. systemd (since 245) relabels what such lists name, each directory on its one
mount, right after it has loaded the policy. It removes them then; without a policy it reads none.
So the list is written on each machine: one without SELinux has a small file in /run more.

A root in memory that shall be read-only cannot be labelled so. Where SELinux is on, it is handed
over writable, and a unit makes it read-only, right after systemd has given it its labels.
"""

import posix

from pyinit.initrd.handover import status
from pyinit.initrd.kernel import files, selinux

DIRECTORY = "/run/systemd/relabel-extra.d"
LIST = DIRECTORY + "/cfs.relabel"
UNITS = "/run/systemd/system"
LABEL = "cfs-label.service"
READ_ONLY = "cfs-read-only.service"
# Policies have no label for what they do not know in /run, and relabelling passes it over: it stays
# tmpfs_t, which confined services cannot read. So it gets that of a file that all may read.
_LABEL = """\
[Unit]
Description=SELinux Label of /run/cfs
Documentation=man:cfs-setup-root(8)
DefaultDependencies=no
ConditionSecurity=selinux
Conflicts=shutdown.target
Before=sysinit.target shutdown.target

[Service]
Type=oneshot
# A hint for readers: no reason for a failed unit.
ExecStart=-chcon -R --reference=/usr/lib/os-release /run/cfs
"""


# Before all that makes mount points and files: it shall find what it finds without SELinux. /usr is
# a mount of its own then (state/layers.py). One that fails is a unit that failed: the system says
# that it is degraded.
_READ_ONLY = """\
[Unit]
Description=Read-Only Root in Memory
Documentation=man:cfs-setup-root(8)
DefaultDependencies=no
ConditionSecurity=selinux
Conflicts=shutdown.target
After=systemd-remount-fs.service
Before=local-fs-pre.target sysinit.target shutdown.target

[Service]
Type=oneshot
ExecStart=mount -o remount,bind,ro /usr
ExecStart=mount -o remount,bind,ro /
"""


def is_writable(mode: str) -> bool:
    """Is a root of that mode handed over writable? transient-ro: until it has its labels."""
    return mode == "transient" or (mode == "transient-ro" and selinux.is_on())


def paths(record: "dict[str, status.Value]") -> list[str]:
    """What of the root with this record lies in memory."""
    memory = (
        ("/", "root", ("transient", "transient-ro")),
        ("/etc", "etc", ("transient",)),
        ("/var", "var", ("tmpfs",)),
    )
    return [path for path, name, modes in memory if record.get(name) in modes]


def write(record: "dict[str, status.Value]") -> None:
    """Leaves the list, in place of another one; none where nothing lies in memory. OSError."""
    named = paths(record)
    if not named:
        try:
            posix.unlink(LIST)
        except FileNotFoundError:
            pass  # as a rule: only a soft reboot finds one
        return
    status.write_file(LIST, "".join(f"{path}\n" for path in named).encode("ascii"))


def leave_units(record: "dict[str, status.Value]") -> None:
    """The units for the root with this record, wanted by the start of the system: where SELinux is
    on. OSError."""
    if not selinux.is_on():
        return
    _leave(LABEL, _LABEL, True)
    _leave(READ_ONLY, _READ_ONLY, record.get("root") == "transient-ro")


def _leave(name: str, text: str, wanted: bool) -> None:
    """Not wanted: it may be there, from a root before a soft reboot."""
    wants = f"{UNITS}/sysinit.target.wants"
    if not wanted:
        try:
            posix.unlink(f"{wants}/{name}")
        except FileNotFoundError:
            pass
        return
    status.write_file(f"{UNITS}/{name}", text.encode("ascii"))
    files.make_parents(wants + "/")
    try:
        posix.symlink(f"../{name}", f"{wants}/{name}")
    except FileExistsError:
        pass
