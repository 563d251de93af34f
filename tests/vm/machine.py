# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A Debian (stable: 13) on which users build: our package is built there, installed, and used.

It is a tree, entered in a mount namespace of its own; its "/" is a mount, as mkosi needs it, and
nothing of it is seen outside. Needs root.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.root import bootstrap

from . import suites
from .apt import keyring, machine_acquire_settings, machine_mirror
from .once import BUILD, REPOSITORY, STAMP, made_once
from .suites import first_with
from .toolbox import Toolbox

SUITE = suites.STABLE
PACKAGES = (
    # to build and to check our package
    *("build-essential", "debhelper", "dh-python", "libpython3-dev", "pybuild-plugin-pyproject"),
    *("python3-dev", "python3-pyelftools", "python3-setuptools", "lintian", "mandoc", "rpm"),
    *("bash-completion", "zsh", "shellcheck", "python3-pefile", "python3-tqdm"),
    # to use it
    *("mkosi", "systemd-ukify", "systemd-boot-efi", "systemd-repart", "dosfstools", "mtools"),
    *("e2fsprogs", "cpio", "kmod", "zstd", "debian-archive-keyring", "ca-certificates"),
    *("initramfs-tools", "linux-image-cloud-amd64", "util-linux", "mount"),
)
# What a package is made of.
_SOURCES = (
    "completions", "csrc", "debian", "docs", "dracut-module", "man", "packaging", "pyinit",
    "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "MANIFEST.in", "README.md", "SECURITY.md",
    "pyproject.toml", "setup.py",
)  # fmt: skip
_CACHE = BUILD / "vm-cache"
# Counted up when the code below makes something else of the same.
_FORMAT = 1

_ENTER = """
set -e
tree=$1
shift
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=0755 tmpfs "$tree/run"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$tree$2"; else : >>"$tree$2"; fi
    mount --bind "$1" "$tree$2"
    shift 2
done
shift
cd "$tree"
pivot_root . mnt
umount -l /mnt
exec sh -c "$1"
"""
# composefs is in none but later suites; these are the commands of docs/howto/mkosi.md.
_COMPOSEFS = """
echo "deb [signed-by={keyring}] {mirror} {suite} main" >/etc/apt/sources.list.d/{suite}.list
printf 'Package: *\\nPin: release n={suite}\\nPin-Priority: 100\\n' >/etc/apt/preferences.d/{suite}
apt-get -q update
apt-get -q -y install --no-install-recommends -t {suite} composefs
"""
_BUILD = """
rm -rf /tmp/pyinit*  # of a build that failed
cp -a /sources /tmp/pyinit
cd /tmp/pyinit
dpkg-buildpackage -b -us -uc
lintian --tag-display-limit 0 ../pyinit_*.changes >/out/lintian 2>/out/lintian.stderr || :
cp ../*.deb /out
cd / && rm -rf /tmp/pyinit*
"""


class MachineError(Exception):
    """A command on that machine failed; the text is the end of what it said."""


def enter(tree: Path, script: str, binds: Mapping[Path, str] | None = None) -> list[str]:
    """The command that runs `script` by sh with `tree` as root. `binds`: our path to theirs."""
    mounts = [str(part) for pair in (binds or {}).items() for part in pair]
    return [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        "sh", "-c", _ENTER, "sh", str(tree), *mounts, "--", script,
    ]  # fmt: skip


def run(
    tree: Path, script: str, binds: Mapping[Path, str] | None = None, limit: float = 3600
) -> str:
    """What `script` said, see `enter`."""
    done = subprocess.run(
        enter(tree, script, binds),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root",
             "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=limit, check=False,
    )  # fmt: skip
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise MachineError(f"exit {done.returncode}: {text[-4000:]}")
    return text


def reach_mirrors(tree: Path) -> None:
    """The same way as this machine."""
    (tree / "etc/apt/apt.conf.d/90machine").write_text(machine_acquire_settings())
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        shutil.copyfile(name, tree / name.lstrip("/"))


def bare() -> Path:
    """The machine without our package."""

    def composefs(keys: str, mirror: str, suite: str) -> str:
        return _COMPOSEFS.format(keyring=keys, mirror=mirror, suite=suite)

    def make(directory: Path) -> None:
        tree = directory / "tree"
        bootstrap(tree, PACKAGES, SUITE)
        reach_mirrors(tree)
        later = first_with("composefs", suites.LATER, Toolbox().offered("composefs")).suite
        run(tree, "set -e\n" + composefs(keyring(), machine_mirror(), later))

    # Where else composefs was looked for changes nothing once it is there.
    key = repr((_FORMAT, PACKAGES, composefs("{keyring}", "{mirror}", suites.LATER[0])))
    return made_once(_CACHE / "machine-bare", key, make) / "tree"


def package() -> Path:
    """The directory with our package, pyinit_*.deb, and what lintian says of it."""
    tree = bare()

    def make(directory: Path) -> None:
        sources = directory / "sources"
        for path in _sources():
            target = sources / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
        text = run(tree, "set -e\n" + _BUILD, {sources: "/sources", directory: "/out"})
        (directory / "log").write_text(text)
        shutil.rmtree(sources)

    return made_once(_CACHE / "package", _package_key(tree), make)


def machine() -> Path:
    """The machine with our package installed."""
    made = package()

    def make(directory: Path) -> None:
        tree = directory / "tree"
        subprocess.run(["cp", "-a", "--reflink=auto", bare(), tree], check=True, timeout=600)
        run(tree, "apt-get -q -y install /out/pyinit_*.deb", {made: "/out"})

    return made_once(_CACHE / "machine", (made / STAMP).read_text(), make) / "tree"


def _package_key(tree: Path) -> str:
    whole = hashlib.sha256(repr((_FORMAT, _BUILD, (tree.parent / STAMP).read_text())).encode())
    for path in _sources():
        whole.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_mode:o}\n".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _sources() -> Iterator[Path]:
    for name in _SOURCES:
        path = REPOSITORY / name
        if path.is_file():
            yield path
            continue
        for directory, directories, names in os.walk(path):
            directories[:] = sorted(set(directories) - {"__pycache__"})
            yield from (Path(directory, name) for name in sorted(names))
