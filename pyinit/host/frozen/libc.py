# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The C library that is in the executable, and the compiler for it.

The distribution's libpython was compiled for glibc. CPython from source is compiled for musl: of
glibc, a static program gets 900 KB that are never used, since its parts are tied together.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.frozen import flags, foreign

# Entry point of csrc/runtime/start.c.
_ENTRY = "cfs_start"

# A program that includes what the kernel's headers are made of: linux/, asm/, asm-generic/.
_KERNEL = "#include <linux/types.h>\n"
_KERNEL_PARTS = ("linux", "asm", "asm-generic")


class LibcError(Exception):
    """The C library for the executable is missing, and what to do."""


@dataclass(frozen=True)
class Libc:
    """How to compile for it, and what a link has before and after our objects."""

    compiler: Sequence[str]
    before: Sequence[str]
    after: Sequence[str]


def glibc() -> Libc:
    """The C compiler's own."""
    compiler = flags.compiler()
    return Libc(compiler, compiler, ["-lm"])


def musl(work: Path) -> Libc:
    """musl, by its gcc wrapper. LibcError where it is not installed.

    The compiler is a script in `work`: musl's wrapper finds none of the kernel's headers, and
    CPython's configure must not take gcc's name of the platform, which says glibc.
    """
    processor = flags.foreign()
    wrapper = foreign.wrapper(processor, work) if processor else shutil.which("musl-gcc")
    if wrapper is None:
        raise LibcError(
            "musl-gcc is missing, which compiles the interpreter: install musl-tools (Debian), or "
            "musl-gcc and musl-libc-static (Fedora). Or build with INTERPRETER=distribution"
        )
    compiler, *options = flags.compiler()
    said = subprocess.run([*flags.compiler(), "--version"], capture_output=True, check=False).stdout
    if b"clang" in said:
        raise LibcError(
            f"CC is {compiler}, and musl's wrapper needs gcc: leave CC unset, or build with "
            "INTERPRETER=distribution"
        )
    suffix = f"-{processor}" if processor else ""
    headers = _kernel_headers(work / f"kernel-headers{suffix}")
    script = work / f"musl-cc{suffix}"
    text = (
        "#!/bin/sh\n"
        '[ "$1" = --print-multiarch ] && exit\n'
        f'REALGCC="{compiler}" exec {" ".join([wrapper, *options])} -idirafter "{headers}" "$@"\n'
    )
    if not script.exists() or script.read_text() != text:
        partial = script.with_suffix(".partial")
        partial.write_text(text)
        partial.chmod(0o755)
        partial.replace(script)
    place = _libraries(script)
    start = [f"-Wl,-e,{_ENTRY}", f"{place}/rcrt1.o", f"{place}/crti.o"]
    return Libc(
        [str(script)],
        [*flags.compiler(), "-nostdlib", "-nostartfiles", *start],
        [f"{place}/libc.a", "-lgcc", f"{place}/crtn.o"],
    )


def _libraries(compiler: Path) -> Path:
    """Where musl's files for a link are: beside the one that the wrapper would start with."""
    command = [str(compiler), "-###", "-x", "c", "/dev/null", "-o", "/dev/null"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r'(/[^\s"]*)/S?crt1\.o\b', said)
    if found is None or not Path(found[1], "rcrt1.o").exists():
        where = found[1] if found else said.strip()
        raise LibcError(f"{compiler}: no rcrt1.o of musl, for a static-pie: {where}")
    return Path(found[1])


def _kernel_headers(place: Path) -> Path:
    """A directory with nothing but the kernel's headers, of the compiler's machine."""
    command = [*flags.compiler(), "-E", "-x", "c", "-"]
    done = subprocess.run(command, input=_KERNEL, capture_output=True, text=True, check=False)
    place.mkdir(parents=True, exist_ok=True)
    for part in _KERNEL_PARTS:
        found = re.search(rf'^# \d+ "(/[^"]*/{part})/[^"/]*"', done.stdout, re.MULTILINE)
        if found is None:
            raise LibcError(
                f"the kernel's header files <{part}/…> are missing: install linux-libc-dev "
                "(Debian) or kernel-headers (Fedora)"
            )
        link = place / part
        if not link.is_symlink() or link.readlink() != Path(found[1]):
            link.unlink(missing_ok=True)
            link.symlink_to(found[1])
    return place
