# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A Debian (stable: 13) on which users build: our package is built there, installed, and used.

It is a tree, entered in a mount namespace of its own; its "/" is a mount, as mkosi needs it, and
nothing of it is seen outside. Needs root.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.root import bootstrap

from . import suites
from .apt import keyring, machine_acquire_settings, machine_mirror
from .once import BUILD, REPOSITORY, STAMP, made_once

SUITE = suites.STABLE
PACKAGES = (
    # to build and to check our package
    *("build-essential", "debhelper", "dh-python", "libpython3-dev", "pybuild-plugin-pyproject"),
    *("libisal-dev", "libssl-dev", "libzstd-dev", "pybind11-dev", "python3-pybind11"),
    *("python3-dev", "python3-pyelftools", "python3-setuptools", "lintian", "mandoc", "rpm"),
    *("bash-completion", "zsh", "shellcheck", "python3-tqdm"),
    # to use it
    *("mkosi", "systemd-ukify", "systemd-boot-efi", "systemd-repart", "dosfstools", "mtools"),
    *("e2fsprogs", "cpio", "kmod", "zstd", "debian-archive-keyring", "ca-certificates"),
    *("initramfs-tools", "linux-image-cloud-amd64", "util-linux", "mount"),
)
# What a package is made of.
_SOURCES = (
    "completions", "csrc", "debian", "docs", "dracut-module", "man", "packaging", "pyinit",
    "selinux", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "MANIFEST.in", "README.md",
    "SECURITY.md",
    "pyproject.toml", "setup.py",
)  # fmt: skip
CACHE = BUILD / "vm-cache"
# Counted up when the code below makes something else of the same.
FORMAT = 1

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
# For what is installed there later: mmdebstrap leaves no lists.
_UPDATE = "apt-get -q update"
_BUILD = """
rm -rf /tmp/pyinit*  # of a build that failed
cp -a /sources /tmp/pyinit
cd /tmp/pyinit
dpkg-buildpackage -b -us -uc -Ppkg.pyinit.libpython
lintian --tag-display-limit 0 ../pyinit_*.changes >/out/lintian 2>/out/lintian.stderr || :
cp ../*.deb /out
cd / && rm -rf /tmp/pyinit*
"""
# What is needed beside by builds with the interpreter from source. The spec has Fedora's names of
# packages: --nodeps.
_SOURCE_PACKAGES = "musl-tools python3-pip python3-wheel"
# CPython's source, as Debian has it: python.org's file. The spec says which.
_FETCH = """
place=/tmp/apt
mkdir -p $place/lists/partial $place/cache/archives/partial
echo "deb-src [signed-by={keyring}] {mirror} {suite} main" >$place/list
set -- -q -oDir::Etc::sourcelist=$place/list -oDir::Etc::sourceparts=/dev/null \\
    -oDir::State::lists=$place/lists -oDir::Cache=$place/cache -oAPT::Sandbox::User=root
apt-get "$@" update
cd /out
apt-get "$@" source --download-only --tar-only python{minor}
mv python{minor}_*.orig.tar.xz {archive}
rm -rf $place
"""
# Debian's Python installs below /usr/local where it is not told that a package is made.
_RPM = """
rm -rf /tmp/rpm  # of a build that failed
mkdir -p /tmp/rpm/SOURCES
cd /sources
export DEB_PYTHON_INSTALL_LAYOUT=deb
python3 -W ignore setup.py -q sdist -d /tmp/rpm/SOURCES
cp /archive/Python-*.tar.xz /tmp/rpm/SOURCES
unshare --net rpmbuild -bb --nodeps --noclean --define '_topdir /tmp/rpm' packaging/pyinit.spec
cp /tmp/rpm/RPMS/*/pyinit-[0-9]*.rpm /out/pyinit.rpm
cp "$(find /tmp/rpm/BUILD -path '*/build/cfs-init')" /out/built
rm -rf /tmp/rpm
"""
# As debian/README.source says, by way of a source package.
_DEB = """
rm -rf /tmp/deb  # of a build that failed
mkdir -p /tmp/deb/python
cd /sources
python3 -W ignore setup.py -q sdist -d /tmp/deb
cd /tmp/deb
tar -xf composefs_init-*.tar.gz
version=$(sed -n '1s/.*(\\(.*\\)-.*/\\1/p' /sources/debian/changelog)
mv composefs_init-*.tar.gz pyinit_$version.orig.tar.gz
mv composefs_init-* pyinit-$version
tar -xf /archive/Python-*.tar.xz -C python --strip-components=1
echo 3.13.0-7 >python/debian-version
tar -cf pyinit_$version.orig-python.tar.xz -I 'xz -0' python
mv python pyinit-$version
dpkg-source -b pyinit-$version
dpkg-source -x pyinit_$version-1.dsc unpacked
cd unpacked
unshare --net dpkg-buildpackage -b -us -uc
cp ../pyinit_*.deb /out/pyinit.deb
rm -rf /tmp/deb
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


def copy_tree(source: Path, target: Path) -> None:
    """A whole machine."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True, timeout=600)


def bare() -> Path:
    """The machine without our package."""

    def make(directory: Path) -> None:
        tree = directory / "tree"
        bootstrap(tree, PACKAGES, SUITE)
        reach_mirrors(tree)
        run(tree, _UPDATE)

    return made_once(CACHE / "machine-bare", repr((FORMAT, PACKAGES, _UPDATE)), make) / "tree"


def rpm(archive: str) -> Path:
    """The directory with our package as pyinit.rpm, by the spec, and cfs-init as it was built."""
    return _from_source("package-rpm", _RPM, archive)


def package_from_source(archive: str) -> Path:
    """The directory with our package as pyinit.deb, whose interpreter is not the distribution's."""
    return _from_source("package-source", _DEB, archive)


def sources_machine(archive: str) -> Path:
    """The directory with `tree`, which builds packages from source, and `archive`/`archive`:
    Python-X.Y.Z.tar.xz, which is fetched."""
    minor = re.sub(r"^Python-(\d+\.\d+)\..*", r"\1", archive)

    def prepare(directory: Path) -> None:
        tree = directory / "tree"
        copy_tree(bare(), tree)
        fetch = _FETCH.format(
            keyring=keyring(), mirror=machine_mirror(), suite=SUITE, minor=minor, archive=archive
        )
        (directory / "archive").mkdir()
        install = f"apt-get -q -y install --no-install-recommends {_SOURCE_PACKAGES}\n"
        run(tree, f"set -e\n{install}{fetch}", {directory / "archive": "/out"})

    key = repr((FORMAT, _SOURCE_PACKAGES, _FETCH, archive, (bare().parent / STAMP).read_text()))
    return made_once(CACHE / "machine-sources", key, prepare)


def build_package(name: str, prepared: Path, archives: Path, build: str) -> Path:
    """The directory `name` with what `build` makes on the machine in `prepared`."""

    def make(directory: Path) -> None:
        sources = directory / "sources"
        copy_sources(sources)
        binds = {sources: "/sources", archives: "/archive", directory: "/out"}
        text = run(prepared / "tree", f"set -e\n{build}", binds)
        (directory / "log").write_text(text)
        shutil.rmtree(sources)

    return made_once(CACHE / name, package_key(prepared / "tree", build), make)


def _from_source(name: str, build: str, archive: str) -> Path:
    prepared = sources_machine(archive)
    return build_package(name, prepared, prepared / "archive", build)


def package() -> Path:
    """The directory with our package, pyinit_*.deb, and what lintian says of it."""
    tree = bare()

    def make(directory: Path) -> None:
        sources = directory / "sources"
        copy_sources(sources)
        text = run(tree, "set -e\n" + _BUILD, {sources: "/sources", directory: "/out"})
        (directory / "log").write_text(text)
        shutil.rmtree(sources)

    return made_once(CACHE / "package", package_key(tree, _BUILD), make)


def machine() -> Path:
    """The machine with our package installed."""
    made = package()

    def make(directory: Path) -> None:
        tree = directory / "tree"
        copy_tree(bare(), tree)
        run(tree, "apt-get -q -y install /out/pyinit_*.deb", {made: "/out"})

    return made_once(CACHE / "machine", (made / STAMP).read_text(), make) / "tree"


def package_key(tree: Path, build: str) -> str:
    whole = hashlib.sha256(repr((FORMAT, build, (tree.parent / STAMP).read_text())).encode())
    for path in _sources():
        whole.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_mode:o}\n".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def copy_sources(target: Path) -> None:
    for path in _sources():
        copy = target / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)


def _sources() -> Iterator[Path]:
    for name in _SOURCES:
        path = REPOSITORY / name
        if path.is_file():
            yield path
            continue
        for directory, directories, names in os.walk(path):
            directories[:] = sorted(set(directories) - {"__pycache__"})
            yield from (Path(directory, name) for name in sorted(names))
