# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One mount on this machine, beside mount.composefs: files on tmpfs, without fs-verity on both
sides (the host's file systems need not have it), in turns.

Run as a program in a mount namespace of its own; prints one JSON object.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import peers
from tests.bench.guest import MOUNT
from tests.bench.measure import start_to_exit
from tests.vm.store import make_store
from tests.vm.toolbox import Toolbox

ROUNDS = 200
_DETACH = 2  # MNT_DETACH of <sys/mount.h>


def missing() -> str | None:
    """Why there can be no mount here."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if "erofs" not in Path("/proc/filesystems").read_text():
        return "this kernel has no EROFS"
    return None


def mounts() -> dict[str, tuple[float, float]]:
    """(median, least) in milliseconds of each program, from start to exit."""
    command = ["unshare", "--mount", "--propagation", "private", "--", sys.executable, "-m"]
    done = subprocess.run(
        [*command, __name__], stdout=subprocess.PIPE, text=True, check=True, timeout=900
    )
    return {name: (median, least) for name, (median, least) in json.loads(done.stdout).items()}


def _commands(place: Path) -> dict[str, list[str]]:
    """All files are copied afresh: how the page cache holds a file is seen in its times."""
    toolbox = Toolbox()
    store = make_store(toolbox)
    shutil.copytree(store.tree, place / "tree", symlinks=True)
    program = shutil.copy("build/cfs-init", place / MOUNT)
    image = place / "tree/unsealed.cfs"
    target = place / "target"
    target.mkdir()
    for name, path in (peers.mount(toolbox) | peers.mount_head()).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / name)
    commands = {
        MOUNT: [
            *(str(program), "--object-store", f"{place}/tree/repo", "--image", str(image)),
            *("--digest", store.sha256, "--verity", "off", str(target)),
        ]
    }
    for home in sorted(place.glob("opt/*")):
        commands[home.name] = [
            *(str(next(home.glob("ld-linux*"))), "--library-path", str(home)),
            *(f"{home}/{home.name}", "-o", f"basedir={place}/tree/repo/objects"),
            *(str(image), str(target)),
        ]
    return commands


def _measure(place: Path) -> dict[str, tuple[float, float]]:
    libc = ctypes.CDLL(None, use_errno=True)

    def unmount() -> None:
        if libc.umount2(f"{place}/target".encode(), _DETACH) < 0:
            raise OSError(ctypes.get_errno(), "umount2")

    return start_to_exit(_commands(place), ROUNDS, after=unmount)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True, timeout=60)
        try:
            json.dump(_measure(Path(directory)), sys.stdout)
        finally:
            subprocess.run(["umount", "-l", directory], check=True, timeout=60)
