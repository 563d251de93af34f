# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root --soft-reboot DIGEST`: another image, ready for `systemctl soft-reboot`.

Composed like the root of a boot, from the disk that the running system shows at /sysroot and by
the configuration that its initrd left in /run/cfs; attached at /run/nextroot, where systemd (254)
looks for it. The caller names the digest. The caller is root and could mount anything there, so
this is no proof of anything: the record says "soft-reboot" as the source.
"""

import posix

from pyinit import VERSION
from pyinit.initrd import boot
from pyinit.initrd.handover import announce, keep, pcr, relabel, status
from pyinit.initrd.kernel import files
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_OK, Refused, Step
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import leftovers

TARGET = "/run/nextroot"
EXTENSIONS = ("/run/extensions", "/run/confexts")
# What systemd moves into the new root.
_MOVED = ("dev", "proc", "run", "sys")
_REMEDY = f"umount -R {TARGET}, and this command again"


def prepare(name: str, settings: Config, digest: Digest, sysroot: str) -> int:
    """The exit code. CfsError: nothing lies at /run/nextroot, or what lay there before."""
    with Step("attach", TARGET):
        files.make_parents(TARGET + "/")
    earlier = compose.mounted_at(TARGET)
    if earlier is not None:
        return _already(name, earlier, digest)
    with Stage(sysroot) as stage:
        stage.strip()
        tree, image, built, _ = boot.build(stage, settings, [digest], _MOVED)
        _check_os_tree(tree)
        source = "soft-reboot"
        record: dict[str, status.Value] = {
            "version": VERSION,
            "source": source,
            "level": source,
            "uki": "not read (soft reboot)",
            **built,
            "measured": pcr.measure(settings, digest, source),
        }
        _forget(status.NEXT)
        compose.attach(tree, TARGET, image)
    if stage.leftovers is not None:
        leftovers.remove_later(*stage.leftovers)
    announce.leave(name, status.NEXT, lambda: status.write(record, status.NEXT))
    announce.leave(name, relabel.LIST, lambda: relabel.write(record))
    announce.leave(name, relabel.UNITS, lambda: relabel.leave_units(record))
    announce.leave(name, keep.UNITS, lambda: keep.write(record))
    announce.say(name, record, TARGET)
    if _has_extensions():
        output.err(
            f"{name}: warning: the extensions of the running system are not in the next one: "
            "systemd leaves what is mounted below /run; reboot to have them\n"
        )
    return EXIT_OK


def _has_extensions() -> bool:
    for place in EXTENSIONS:
        try:
            if posix.listdir(place):
                return True
        except OSError:
            pass
    return False


def _already(name: str, found: Digest, digest: Digest) -> int:
    """Nothing to do, if it is the same one, with its record. Another one is not replaced: its upper
    layers may be those that the new one needs, so it has to go first, and root knows why it came.
    """
    if found != digest:
        raise Refused("attach", TARGET, f"{found} is mounted there already", f"none: {_REMEDY}")
    with Step("attach", status.NEXT):
        try:
            recorded = str(digest).encode() in files.read(status.NEXT, status.MAX)
        except FileNotFoundError:
            recorded = False
    if not recorded:
        raise Refused(
            "attach", status.NEXT, f"no record of what lies at {TARGET}", f"one: {_REMEDY}"
        )
    output.err(f"{name}: {digest} is mounted on {TARGET} already\n")
    return EXIT_OK


def _forget(path: str) -> None:
    """The record of one that somebody has unmounted since."""
    with Step("attach", path):
        try:
            posix.unlink(path)
        except FileNotFoundError:
            pass


def _check_os_tree(tree: int) -> None:
    """Without such a file systemd passes /run/nextroot over and starts the old root again."""
    names = ("etc/os-release", "usr/lib/os-release")
    for path in names:
        try:
            posix.stat(path, dir_fd=tree, follow_symlinks=False)
        except OSError:
            continue
        return
    raise Refused("state", "/" + names[-1], "not in the image", "what systemd knows a root by")
