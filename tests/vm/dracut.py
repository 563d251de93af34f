# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds by the dracut of three Debian suites, with our module in them.

dracut runs in a Debian tree of its suite, in which this checkout's files are mounted where a
package would put them; the tree itself stays as it was bootstrapped. Needs root.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.demo.root import bootstrap

from .once import BUILD, REPOSITORY, STAMP, made_once
from .product import cfs_init
from .toolbox import Kernel

SUITES = {"059": "bookworm", "106": "trixie", "112": "forky"}
PACKAGES = (
    "dracut-core", "systemd", "systemd-sysv", "udev", "kmod", "e2fsprogs", "zstd",
    "python3", "python3-jsonschema",  # for cfs-init-config
)  # fmt: skip
SYSTEMD_MODULES = ("systemd", "systemd-initrd", "dracut-systemd")
"""To be omitted for an initrd without systemd."""

CARRIED = "rootfs.digest"
TOML = "setup-root-conf.toml"

MODULE = REPOSITORY / "dracut-module"
_LIMIT_SECONDS = 600
# Counted up when the code below makes another tree of the same packages.
_FORMAT = 1
_COMPILER = """#!/bin/sh
# _cfs is built for the Python of the machine that tests, and imported here but never called.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/pyinit exec python3 -c '
import sys, types
sys.modules["_cfs"] = types.SimpleNamespace(SHA256=1, SHA512=2)
from pyinit.host.cfs_init_config import main
sys.exit(main(sys.argv[1:]))' "$@"
"""
# $1: the tree, $2: the files of /usr/lib/composefs, $3: output, $4: modules, $5: repository,
# $6: yes, where the machine has cfs-init-config; then dracut's arguments
_RUN = """
set -e
tree=$1 files=$2 output=$3 modules=$4 repository=$5 compiler=$6
shift 6
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
mount -t tmpfs -o mode=1777 tmpfs "$tree/var/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$tree/run"
mount --bind "$repository/dracut-module/90cfs" "$tree/usr/lib/dracut/modules.d/90cfs"
mount --bind "$repository/dracut-module/cfs-setup-root.service" \
    "$tree/usr/lib/systemd/system/cfs-setup-root.service"
mount --bind "$repository" "$tree/opt/pyinit"
mount --bind "$files" "$tree/usr/lib/composefs"
mount --bind "$modules" "$tree/usr/lib/modules"
mount --bind "$output" "$tree/out"
[ "$compiler" = yes ] || mount -t tmpfs tmpfs "$tree/opt/compiler"
unset DEBUG LD_LIBRARY_PATH PYTHONPATH
exec chroot "$tree" dracut --force --no-hostonly --compress "zstd -q -6" "$@"
"""


@dataclass(frozen=True)
class Initrd:
    """What dracut made."""

    file: Path
    log: str

    @property
    def data(self) -> bytes:
        """The archive, for a boot."""
        return self.file.read_bytes()


class DracutError(Exception):
    """dracut made no initrd; the text is what it said."""


def initrd(
    version: str,
    kernel: Kernel,
    files: Mapping[str, bytes | str] | None = None,
    *,
    omit: Sequence[str] = (),
    only: Sequence[str] = (),
    compiler: bool = True,
) -> Initrd:
    """By dracut `version`, for `kernel`. `files` lie in /usr/lib/composefs, beside cfs-init.

    `omit`: dracut modules ("cfs": ours); `only`: these and what they need. `compiler`:
    whether there is a cfs-init-config. Made once for the same content.
    """
    tree = machine(version)
    there: dict[str, bytes] = {
        name: content.encode() if isinstance(content, str) else content
        for name, content in (files or {}).items()
    }
    there["cfs-init"] = cfs_init().read_bytes()
    sources = [*MODULE.glob("90cfs/*"), MODULE / "cfs-setup-root.service"]
    sources += REPOSITORY.glob("pyinit/**/*config*.py")
    arguments = ["--kver", kernel.version, *(["--omit", " ".join(omit)] if omit else [])]
    arguments += ["--modules", " ".join(only)] if only else []
    key = repr((
        _RUN, (tree.parent / STAMP).read_text(), kernel.version, arguments, compiler,
        sorted((name, hashlib.sha256(content).hexdigest()) for name, content in there.items()),
        sorted((path.name, path.read_text()) for path in sources),
    ))  # fmt: skip

    def make(directory: Path) -> None:
        place = directory / "composefs"
        place.mkdir()
        for name, content in there.items():
            (place / name).write_bytes(content)
        (place / "cfs-init").chmod(0o755)
        output = directory / "output"
        output.mkdir()
        done = subprocess.run(
            [
                "unshare", "--mount", "--propagation", "private", "sh", "-c", _RUN, "sh",
                tree, place, output, kernel.modules_dir.parent, REPOSITORY,
                "yes" if compiler else "no", *arguments, "/out/initrd",
            ],
            env={**os.environ, "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_LIMIT_SECONDS, check=False,
        )  # fmt: skip
        log = done.stdout.decode(errors="replace")
        if done.returncode or not (output / "initrd").exists():
            raise DracutError(f"exit {done.returncode}: {log}")
        (directory / "log").write_text(log)
        (output / "initrd").rename(directory / "initrd")
        shutil.rmtree(place)

    # One place for each use: what another build of cfs-init made is replaced.
    use = repr((kernel.version, arguments, compiler, sorted((files or {}).items())))
    name = hashlib.sha256(use.encode()).hexdigest()[:16]
    directory = made_once(BUILD / "vm-cache" / f"dracut-{version}-{name}", key, make)
    return Initrd(directory / "initrd", (directory / "log").read_text())


def machine(version: str) -> Path:
    """The Debian tree with dracut `version`."""
    suite = SUITES[version]

    def make(directory: Path) -> None:
        tree = directory / "tree"
        bootstrap(tree, PACKAGES, suite)
        status = (tree / "var/lib/dpkg/status").read_text()
        found = re.search(r"^Package: dracut-core\n(?:.+\n)*?Version: (\S+)$", status, re.MULTILINE)
        if not found or not found.group(1).startswith(version):
            raise DracutError(f"{suite} has dracut {found and found.group(1)}: change SUITES")
        for name in ("usr/lib/dracut/modules.d/90cfs", "usr/lib/composefs", "usr/lib/modules"):
            (tree / name).mkdir(exist_ok=True)
        for name in ("out", "opt/pyinit", "opt/compiler"):
            (tree / name).mkdir(exist_ok=True)
        (tree / "usr/lib/systemd/system/cfs-setup-root.service").touch()
        # A link, which can be left dangling.
        (tree / "usr/bin/cfs-init-config").symlink_to("/opt/compiler/cfs-init-config")
        compiler = tree / "opt/compiler/cfs-init-config"
        compiler.write_text(_COMPILER)
        compiler.chmod(0o755)

    key = repr((_FORMAT, suite, PACKAGES, _COMPILER))
    return made_once(BUILD / "vm-cache" / f"dracut-{version}", key, make) / "tree"
