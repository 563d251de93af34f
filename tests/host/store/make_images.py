# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes images.tar.gz anew, as root: an image of each format that cfsctl has, of the same tree with
all kinds of files, hard links, and xattrs that mean something to overlayfs.

    python3 make_images.py CFSCTL
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TIME = 1_700_000_000
XATTRS = {
    "user.a": b"b",
    "user.overlay.redirect": b"/x/y",
    "user.overlay.metacopy": b"",
    "trusted.a": b"\0\n =\\",
    "trusted.overlay.opaque": b"y",
    "trusted.overlay.overlay.opaque": b"y",
    "security.capability": bytes.fromhex("0100000200040000" + "00" * 12),
    "security.selinux": b"system_u:object_r:any_t:s0\0",
}


def fill(root: Path) -> None:
    below = root / "usr"
    (below / "many").mkdir(parents=True)
    (below / "empty-directory").mkdir()
    for size in (0, 1, 64, 65, 4095, 4096, 4097, 300_000):
        (below / f"size-{size}").write_bytes(b"x" * size)
    for number in range(300):  # of several blocks
        (below / "many" / f"a-name-of-usual-length-{number}").write_bytes(b"%d" % (number % 3))
    (below / os.fsdecode(b"\xff name\n\\x=-")).write_bytes(b"n" * 100)
    (below / "link").symlink_to("target")
    (below / "long-link").symlink_to("x" * 4000)
    os.mkfifo(below / "fifo")
    os.mknod(below / "character", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(below / "block", stat.S_IFBLK | 0o600, os.makedev(259, 300))
    os.mknod(below / "whiteout", stat.S_IFCHR, 0)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(below / "socket"))
    for name in ("size-0", "size-64", "size-300000", "link", "fifo"):
        for other in (root / f"before-{name}", below / f"z-{name}", below / "many" / f"m-{name}"):
            os.link(below / name, other, follow_symlinks=False)
    for name in ("size-0", "size-64", "size-65", "size-300000", "many"):
        for key, value in XATTRS.items():
            os.setxattr(below / name, key, value)
    os.chown(below / "size-4096", 70_000, 80_000)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    os.utime(below / "size-65", ns=(0, -5_000_000_007))
    os.utime(below / "size-4095", ns=(0, TIME * 1_000_000_000 + 123_456_789))


def main(cfsctl: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        root = work / "root"
        fill(root)
        for version in "012":
            store = work / f"store{version}"
            common = [cfsctl, "--repo", str(store), "--insecure", "--erofs-version", version]
            subprocess.run([*common, "init", "--algorithm", "fsverity-sha256-12"], check=True)
            made = [*common, "create-image", "--no-propagate-usr-to-root", str(root)]
            subprocess.run(made, check=True)
            [image] = (path for path in (store / "images").iterdir() if path.is_symlink())
            shutil.copyfile(image, work / f"v{version}")
        subprocess.run(
            [
                "tar", "-C", work, "--owner=0", "--group=0", "--numeric-owner",
                f"--mtime=@{TIME}", "-czf", HERE / "images.tar.gz", "v0", "v1", "v2",
            ],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
