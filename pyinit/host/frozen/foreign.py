# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a build for another processor needs: a compiler, a libc or libpython, and QEMU."""

import os
import shutil
import sys
from pathlib import Path

from pyinit.host.frozen.apt import Apt, AptError, run

# Processors with an entry point in csrc/runtime/start.c, and Debian's name of each.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
ROOT = Path("/")
# Not to be had: csrc/system/confined.c and others read the low half of a number where it is on
# little-endian machines.
BIG_ENDIAN = frozenset({"ppc64", "s390x"})


class ForeignError(Exception):
    """Nothing can be built here for that processor, and what to do."""


def compiler(processor: str) -> str:
    """The name of GNU's cross compiler for it. ForeignError: it is not installed, or no build for
    that processor is known."""
    if processor not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        why = ": it is big-endian, and the core is for little-endian processors"
        raise ForeignError(
            f"--target {processor}{why if processor in BIG_ENDIAN else ''}, expected one of {known}"
        )
    name = f"{processor}-linux-gnu-gcc"
    if shutil.which(name) is None:
        package = f"gcc-{processor.replace('_', '-')}-linux-gnu"
        raise ForeignError(f"{name} is missing: install {package} (Debian), or set CC")
    return name


def emulator(processor: str) -> str:
    """The program that runs one for that processor. ForeignError: it is not installed."""
    for name in (f"qemu-{processor}-static", f"qemu-{processor}"):
        if found := shutil.which(name):
            return found
    raise ForeignError(
        f"qemu-{processor} is missing: the build has to run a program for {processor}. Install "
        "qemu-user-static, or qemu-user"
    )


def wrapper(processor: str, work: Path) -> str:
    """musl's gcc wrapper for it: that which is installed (Debian: musl-dev:arm64), else one of
    Debian's package, which is fetched to `work` once. AptError, ForeignError."""
    if found := shutil.which(f"{processor}-linux-musl-gcc"):
        return found
    place = work / f"musl-{processor}"
    if not place.exists():
        _fetch(processor, place, work)
    return str(place.absolute() / "musl-gcc")


def _fetch(processor: str, place: Path, work: Path) -> None:
    if processor not in ARCHITECTURES or shutil.which("apt-get") is None:
        raise ForeignError(f"{processor}-linux-musl-gcc is missing: install musl for {processor}")
    unpacked = _unpacked("musl-dev", processor, work)
    # Its paths are those of an installed package.
    installed = Path("usr/lib") / f"{processor}-linux-musl" / "musl-gcc.specs"
    specs = unpacked / "musl-gcc.specs"
    text = (unpacked / installed).read_text()
    specs.write_text(
        text.replace(" /usr/", f" {place.absolute()}/usr/").replace(
            "-L/usr/", f"-L{place.absolute()}/usr/"
        )
    )
    script = unpacked / "musl-gcc"
    script.write_text(f'#!/bin/sh\nexec "$REALGCC" "$@" -specs "{place.absolute() / specs.name}"\n')
    script.chmod(0o755)
    os.rename(unpacked, place)
    shutil.rmtree(work / "apt")


def libpython(processor: str, work: Path) -> tuple[Path, list[Path]]:
    """The distribution's static library for it, and where its header files are: as installed
    (Debian: libpython3-dev:arm64), else of Debian's package, which is fetched to `work` once.

    ForeignError.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    place = work / f"{name}-{processor}"
    installed = installed_libpython(ROOT, processor)
    if installed[0].exists():
        return installed
    if not place.exists():
        if processor not in ARCHITECTURES or shutil.which("apt-get") is None:
            raise ForeignError(f"{installed[0]} is missing: build with INTERPRETER=source")
        os.rename(_unpacked(f"{name}-dev", processor, work), place)
        shutil.rmtree(work / "apt")
    found = installed_libpython(place.absolute(), processor)
    if not found[0].exists():
        raise ForeignError(f"{found[0]} is missing: build with INTERPRETER=source")
    return found


def installed_libpython(root: Path, processor: str) -> tuple[Path, list[Path]]:
    """Where Debian's package for that processor has the same below `root`."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    library = root / f"usr/lib/python{version}/config-{version}-{processor}-linux-gnu"
    # pyconfig.h in the first directory is for all processors, and includes one's from the second.
    headers = root / "usr/include"
    return library / f"libpython{version}-pic.a", [headers / f"python{version}", headers]


def _unpacked(name: str, processor: str, work: Path) -> Path:
    """Debian's package for that processor, unpacked below `work`/apt. ForeignError."""
    apt = Apt(work / "apt", ARCHITECTURES[processor])
    try:
        apt.update()
        package = apt.package(name)
        unpacked = work / "apt" / "unpacked"
        run(["dpkg-deb", "--extract", package, unpacked])
    except AptError as error:
        raise ForeignError(
            f"{error}\n{name} for {processor} comes from Debian's mirror, once. Without a network "
            f"install {name}:{ARCHITECTURES[processor]}"
        ) from None
    return unpacked
