# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds by the dracut of three Debian suites, by role, with our module in them.

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

from . import suites
from .apt import say
from .once import BUILD, REPOSITORY, STAMP, made_once
from .product import cfs_init
from .suites import first_with
from .toolbox import Kernel, Toolbox

# In November 2026 they had 059, 106 and 112.
OLDEST, STABLE, NEWEST = "oldest", "stable", "newest"
EACH = OLDEST, STABLE, NEWEST
WITH_TPM = "newest-tpm"
"""The newest with systemd's programs for a TPM, its stub and ukify."""
SUITES = {
    OLDEST: (suites.OLDEST,), STABLE: (suites.STABLE,), NEWEST: suites.LATER,
    WITH_TPM: suites.LATER,
}  # fmt: skip
SUPPORTED = 59
_PACKAGE = "dracut-core"
PACKAGES = (
    _PACKAGE, "systemd", "systemd-sysv", "udev", "kmod", "e2fsprogs", "zstd",
    "cryptsetup-bin", "dmsetup",
    "python3",  # for cfs-init-config
)  # fmt: skip
_FOR_A_TPM = ("systemd-tpm", "systemd-ukify", "systemd-boot-efi")
CRYPT_MODULES = ("crypt", "dm")
"""In an initrd only where it is asked for them."""
SYSTEMD_MODULES = ("systemd", "systemd-initrd", "dracut-systemd")
"""To be omitted for an initrd without systemd."""

CARRIED = "rootfs.digest"
TOML = "setup-root-conf.toml"

MODULE = REPOSITORY / "dracut-module"
_LIMIT_SECONDS = 3600
# Counted up when the code below makes another tree of the same packages.
_FORMAT = 1
_COMPILER = """#!/bin/sh
# _cfs is built for the Python of the machine that tests, and imported here but never called.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/pyinit exec python3 -c '
import sys, types
sys.modules["_cfs"] = types.SimpleNamespace(SHA256=1, SHA512=2)
from pyinit.host.commands.cfs_init_config import main
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
for unit in "$repository"/dracut-module/*.service; do
    place=$tree/usr/lib/systemd/system/${unit##*/}
    touch "$place"
    mount --bind "$unit" "$place"
done
mount --bind "$repository" "$tree/opt/pyinit"
mount --bind "$files" "$tree/usr/lib/composefs"
mount --bind "$modules" "$tree/usr/lib/modules"
mount --bind "$output" "$tree/out"
[ "$compiler" = yes ] || mount -t tmpfs tmpfs "$tree/opt/compiler"
unset DEBUG LD_LIBRARY_PATH PYTHONPATH TMPDIR
exec chroot "$tree" dracut --force --no-hostonly --compress "zstd -q -6" "$@"
"""


@dataclass(frozen=True)
class Initrd:
    """What dracut made."""

    file: Path
    log: str
    dracut: str
    """The version of its package."""

    @property
    def data(self) -> bytes:
        """The archive, for a boot."""
        return self.file.read_bytes()


class DracutError(Exception):
    """dracut made no initrd; the text is what it said."""


def initrd(
    role: str,
    kernel: Kernel,
    files: Mapping[str, bytes | str] | None = None,
    *,
    omit: Sequence[str] = (),
    add: Sequence[str] = (),
    only: Sequence[str] = (),
    include: Mapping[str, bytes | str] | None = None,
    compiler: bool = True,
) -> Initrd:
    """By the dracut that plays `role`, for `kernel`. `files` lie in /usr/lib/composefs, beside
    cfs-init.

    `omit`: dracut modules; `add`: more than by default ("cfs": ours, which is in by itself where
    there is a digest); `only`: these and what they need. `include`: files of the initrd.
    `compiler`: whether there is a cfs-init-config. Made once for the same content.
    """
    tree = machine(role)
    there = _as_bytes(files)
    included = _as_bytes(include)
    there["cfs-init"] = cfs_init().read_bytes()
    sources = [*MODULE.glob("90cfs/*"), *MODULE.glob("*.service")]
    sources += REPOSITORY.glob("pyinit/**/*config*.py")
    omit = (*omit, *(name for name in CRYPT_MODULES if name not in add))
    arguments = ["--kver", kernel.version, "--omit", " ".join(omit)]
    arguments += ["--modules", " ".join(only)] if only else []
    arguments += ["--add", " ".join(add)] if add else []
    arguments += ["--include", "/out/include", "/"] if included else []
    key = repr((
        _RUN, (tree.parent / STAMP).read_text(), kernel.version, arguments, compiler,
        sorted(included.items()),
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
        for name, content in included.items():
            path = output / "include" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
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
        shutil.rmtree(output)

    # One place for each use: what another build of cfs-init made is replaced.
    use = repr((kernel.version, arguments, compiler, sorted((files or {}).items()), included))
    name = hashlib.sha256(use.encode()).hexdigest()[:16]
    directory = made_once(BUILD / "vm-cache" / f"dracut-{role}-{name}", key, make)
    found = (tree.parent / "version").read_text()
    return Initrd(directory / "initrd", (directory / "log").read_text(), found)


def _as_bytes(files: Mapping[str, bytes | str] | None) -> dict[str, bytes]:
    return {
        name: content.encode() if isinstance(content, str) else content
        for name, content in (files or {}).items()
    }


def machine(role: str) -> Path:
    """The Debian tree with the dracut that plays `role`."""

    def make(directory: Path) -> None:
        tree = directory / "tree"
        choice = first_with(_PACKAGE, SUITES[role], Toolbox().offered(_PACKAGE), _unfit)
        say(f"dracut {role}: {choice.version} of {choice.suite}")
        bootstrap(tree, _packages(role), choice.suite)
        (directory / "version").write_text(choice.version)
        for name in ("usr/lib/dracut/modules.d/90cfs", "usr/lib/composefs", "usr/lib/modules"):
            (tree / name).mkdir(exist_ok=True)
        for name in ("out", "opt/pyinit", "opt/compiler"):
            (tree / name).mkdir(exist_ok=True)
        # A link, which can be left dangling.
        (tree / "usr/bin/cfs-init-config").symlink_to("/opt/compiler/cfs-init-config")
        compiler = tree / "opt/compiler/cfs-init-config"
        compiler.write_text(_COMPILER)
        compiler.chmod(0o755)

    key = repr((_FORMAT, SUITES[role], _packages(role), _COMPILER))
    return made_once(BUILD / "vm-cache" / f"dracut-{role}", key, make) / "tree"


def _packages(role: str) -> tuple[str, ...]:
    # In bookworm systemd-repart is a part of systemd. From forky on switch_root is in
    # util-linux-extra.
    if role == OLDEST:
        return PACKAGES
    more = _FOR_A_TPM if role == WITH_TPM else ()
    return (*PACKAGES, "systemd-repart", "util-linux-extra", *more)


def _unfit(version: str) -> str:
    found = re.match(r"\d+", version)
    return "" if found and int(found.group()) >= SUPPORTED else f"older than {SUPPORTED:03}"
