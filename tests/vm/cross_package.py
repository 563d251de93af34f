# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our package for arm64, cross-built on that Debian (machine.py) as debian/README.source says."""

from pathlib import Path

from . import machine
from .once import REPOSITORY, STAMP, made_once

ARCHITECTURE = "arm64"
_PACKAGES = f"""
dpkg --add-architecture {ARCHITECTURE}
apt-get -q update
apt-get -q -y install --no-install-recommends crossbuild-essential-{ARCHITECTURE}
mkdir -p /tmp/cross
cp -a /sources/debian /tmp/cross
cd /tmp/cross
apt-get -q -y --no-install-recommends -a{ARCHITECTURE} -Pcross build-dep ./
cd / && rm -rf /tmp/cross
"""
_BUILD = f"""
rm -rf /tmp/cross  # of a build that failed
mkdir /tmp/cross
cp -a /sources /tmp/cross/pyinit
cd /tmp/cross/pyinit
PYTHON_SOURCE=$(echo /archive/Python-*.tar.xz)
export PYTHON_SOURCE
unshare --net dpkg-buildpackage -b -us -uc -a{ARCHITECTURE} -Pcross
lintian --tag-display-limit 0 ../pyinit_*.changes >/out/lintian 2>/out/lintian.stderr || :
cp ../pyinit_*.deb /out
cd / && rm -rf /tmp/cross
"""


def cross_package(archive: str) -> Path:
    """The directory with pyinit_*_arm64.deb, and what lintian says of it. `archive`: the source of
    the interpreter, see machine.sources_machine."""
    native = machine.sources_machine(archive)

    def prepare(directory: Path) -> None:
        machine.copy_tree(native / "tree", directory / "tree")
        machine.run(directory / "tree", f"set -e\n{_PACKAGES}", {REPOSITORY: "/sources"})

    control = (REPOSITORY / "debian/control").read_text()
    key = repr((machine.FORMAT, _PACKAGES, control, (native / STAMP).read_text()))
    prepared = made_once(machine.CACHE / "machine-cross", key, prepare)
    return machine.build_package("package-cross", prepared, native / "archive", _BUILD)
