# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root --soft-reboot DIGEST`: another image, ready for `systemctl soft-reboot`.

Composed like the root of a boot, from the disk that the running system shows at /sysroot and by
the configuration that its initrd left in /run/cfs; attached at /run/nextroot, where systemd (254)
looks for it. Who says the digest is root, who could mount anything there: the record calls the
source by its name.
"""

import posix

from pyinit import VERSION
from pyinit.initrd import compose, mounting, output, setup_root, status
from pyinit.initrd.config import Config
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import EXIT_OK, Refused, Step

TARGET = "/run/nextroot"
# What systemd moves into the new root.
_MOVED = ("dev", "proc", "run", "sys")


def prepare(name: str, settings: Config, digest: Digest, sysroot: str) -> int:
    """The exit code. CfsError: /run/nextroot is as it was, or empty if it is the last step, to
    attach the new root, that failed."""
    with Step("attach", TARGET):
        try:
            posix.mkdir(TARGET, 0o755)
        except FileExistsError:
            pass
    earlier = compose.mounted_at(TARGET)
    if earlier == digest:
        output.err(f"{name}: {digest} is mounted on {TARGET} already\n")
        return EXIT_OK
    tree, image, built = setup_root.build(settings, [digest], sysroot, _MOVED, running=True)
    _check_os_tree(tree)
    if earlier is not None:
        compose.detach(mounting.open_directory(TARGET), TARGET)
    compose.attach(tree, TARGET, image)
    source = "soft-reboot"
    record: dict[str, status.Value] = {
        "version": VERSION,
        "source": source,
        "level": source,
        "uki": "not read (soft reboot)",
        **built,
    }
    setup_root.leave(name, status.NEXT, lambda: status.write(record, status.NEXT))
    setup_root.say(name, record, TARGET)
    return EXIT_OK


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
