# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The list of what lies in memory, for systemd to give it its SELinux labels.

A tmpfs that was mounted before the policy has no labels: all in it is tmpfs_t, and so is a file of
an overlay above it. systemd (since 245) relabels what such lists name, each directory on its one
mount, right after it has loaded the policy. It removes them then; without a policy it reads none.
So the list is written on each machine: one without SELinux has a small file in /run more.
"""

import posix

from pyinit.initrd.handover import status
from pyinit.initrd.kernel import selinux

DIRECTORY = "/run/systemd/relabel-extra.d"
LIST = DIRECTORY + "/cfs.relabel"
UNITS = "/run/systemd/system"
NAME = "cfs-label.service"
# Policies have no label for what they do not know in /run, and relabelling passes it over: it stays
# tmpfs_t, which confined services cannot read. So it gets that of a file that all may read.
_UNIT = """\
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


def paths(record: "dict[str, status.Value]") -> list[str]:
    """What of the root with this record lies in memory.

    Not a root that is mounted read-only: nothing there can get a label.
    """
    memory = (("root", "transient", "/"), ("etc", "transient", "/etc"), ("var", "tmpfs", "/var"))
    return [path for name, mode, path in memory if record.get(name) == mode]


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


def leave_unit() -> None:
    """The unit that labels /run/cfs, wanted by the start of the system: where SELinux is on.
    OSError."""
    if not selinux.is_on():
        return
    status.write_file(f"{UNITS}/{NAME}", _UNIT.encode("ascii"))
    wants = f"{UNITS}/sysinit.target.wants"
    try:
        posix.mkdir(wants, 0o755)
    except FileExistsError:
        pass
    try:
        posix.symlink(f"../{NAME}", f"{wants}/{NAME}")
    except FileExistsError:
        pass
