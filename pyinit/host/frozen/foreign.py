# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a build for another processor needs: a compiler, its musl, and how to run what is built."""

import os
import shutil
from pathlib import Path

from pyinit.host.frozen.apt import Apt, AptError, run

# Processors with an entry point in csrc/runtime/start.c, and Debian's name of each.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
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
    architecture = ARCHITECTURES.get(processor)
    if architecture is None or shutil.which("apt-get") is None:
        raise ForeignError(f"{processor}-linux-musl-gcc is missing: install musl for {processor}")
    apt = Apt(work / "apt", architecture)
    try:
        apt.update()
        package = apt.package("musl-dev")
        unpacked = work / "apt" / "unpacked"
        run(["dpkg-deb", "--extract", package, unpacked])
    except AptError as error:
        raise ForeignError(
            f"{error}\nmusl for {processor} comes from Debian's mirror, once. Without a network "
            f"install musl-dev:{architecture}"
        ) from None
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
