# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root --soft-reboot DIGEST`: another image, ready for `systemctl soft-reboot`.

Composed like the root of a boot, from the disk that the running system shows at /sysroot and by
the configuration that its initrd left in /run/cfs; attached at /run/nextroot, where systemd (254)
looks for it. Who says the digest is root, who could mount anything there: the record calls the
source by its name.
"""

import posix

from pyinit import VERSION
from pyinit.initrd import compose, output, setup_root, status
from pyinit.initrd.config import Config
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import EXIT_OK, Refused, Step
from pyinit.initrd.stage import Stage

TARGET = "/run/nextroot"
# What systemd moves into the new root.
_MOVED = ("dev", "proc", "run", "sys")


def prepare(name: str, settings: Config, digest: Digest, sysroot: str) -> int:
    """The exit code. CfsError: /run/nextroot and its record are as they were."""
    with Step("attach", TARGET):
        try:
            posix.mkdir(TARGET, 0o755)
        except FileExistsError:
            pass
    earlier = compose.mounted_at(TARGET)
    if earlier == digest:
        output.err(f"{name}: {digest} is mounted on {TARGET} already\n")
        return EXIT_OK
    with Stage(sysroot) as stage:
        stage.strip()
        tree, image, built = setup_root.build(stage, settings, [digest], _MOVED)
        _check_os_tree(tree)
        attach = compose.attach if earlier is None else compose.replace
        with _RecordAside():
            attach(tree, TARGET, image)
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


class _RecordAside:
    """No record, while what lies at /run/nextroot becomes another root; the one that was there
    comes back if that fails."""

    __slots__ = ()

    _PLACE = status.NEXT + ".earlier"

    def __enter__(self) -> None:
        with Step("attach", status.NEXT):
            self._remove()
            try:
                posix.rename(status.NEXT, self._PLACE)
            except FileNotFoundError:
                pass

    def __exit__(self, failure: object, *_exception: object) -> None:
        try:
            if failure is None:
                self._remove()
            else:
                posix.rename(self._PLACE, status.NEXT)
        except OSError:
            pass  # there was none; and what is told is the failure itself

    def _remove(self) -> None:
        try:
            posix.unlink(self._PLACE)
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
