# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The hardening flags of both builds: the executable for the initrd and the extension module.

Those of the OpenSSF guide, https://best.openssf.org/Compiler-Hardening-Guides/, of June 2025. Each
is tried on the compiler that is used (CC), for the machine that it compiles for: gcc and clang,
older and newer ones, and cross compilers know different ones. It imports nothing of this package:
setup.py uses it before anything is installed.
"""

import functools
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# One flag a word; of words with "|", the first that is known.
HARDENING = (
    "-Wall -Wextra -Wformat=2 -Wconversion -Wimplicit-fallthrough -Wtrampolines -Wbidi-chars=any "
    "-Werror=format-security -Werror=implicit -Werror=incompatible-pointer-types "
    "-Werror=int-conversion -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-clash-protection "
    "-fstack-protector-strong -fno-delete-null-pointer-checks -fno-strict-overflow "
    "-fno-strict-aliasing -fstrict-flex-arrays=3 -fzero-init-padding-bits=all "
    # clang has zero from 16 on
    "-ftrivial-auto-var-init=zero|-ftrivial-auto-var-init=pattern "
    # x86, and ARM
    "-fcf-protection=full|-mbranch-protection=standard"
).split()
# Known to compilers of C++ too, which say each time that they mean nothing there.
_C_ONLY = ("-Werror=implicit", "-Werror=incompatible-pointer-types", "-Werror=int-conversion")
# Of a shared object. Not nodlopen: the interpreter loads it by dlopen. The executable has these as
# far as they mean something for a static file.
LINK_SHARED = (
    "-Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,-z,separate-code -Wl,--as-needed "
    "-Wl,--no-copy-dt-needed-entries"
).split()


def compiler() -> list[str]:
    """The C compiler as the environment names it, else gcc."""
    return os.environ.get("CC", "gcc").split()


def tool(name: str) -> str:
    """Path or name of a tool of the compiler: its strip is for the machine that it compiles for."""
    command = [*compiler(), f"-print-prog-name={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or name


@functools.cache
def _triplet(command: tuple[str, ...]) -> str:
    done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def triplet() -> str:
    """The machine that the compiler compiles for, in the compiler's words: aarch64-linux-gnu."""
    return _triplet(tuple(compiler()))


def foreign() -> str:
    """The processor of triplet() where it is not this machine's; else nothing."""
    processor = triplet().partition("-")[0]
    return "" if processor == platform.machine() else processor


def hardening() -> list[str]:
    """Flags to compile with: those of HARDENING that the compiler knows."""
    return _known(tuple(compiler()), tuple(HARDENING), ("-c",))


def hardening_cxx() -> list[str]:
    """The same for C++, which CXX compiles, or CC: setuptools before 73 asks that one."""
    wanted = tuple(flag for flag in HARDENING if flag not in _C_ONLY)
    other = known(os.environ.get("CXX", "g++").split(), wanted)
    return [flag for flag in known(compiler(), wanted) if flag in other]


def known(command: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that the compiler `command` knows."""
    return _known(tuple(command), tuple(wanted), ("-c",))


def linking(wanted: list[str]) -> list[str]:
    """Those of `wanted` that the compiler and its linker know."""
    return _known(tuple(compiler()), tuple(wanted), ("-shared", "-nostdlib"))


@functools.cache
def _known(command: tuple[str, ...], wanted: tuple[str, ...], how: tuple[str, ...]) -> list[str]:
    def works(*flags: str) -> bool:
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [*command, *how, "-O2", "-Werror", *flags, "-x", "c", "-", "-o", "out"],
                input=b"int answer(void); int answer(void) { return 0; }",
                cwd=Path(directory),
                capture_output=True,
                check=False,
            )
        return done.returncode == 0

    first = [choice.partition("|")[0] for choice in wanted]
    if works(*first):  # all at once, mostly
        return first
    found: list[str] = []
    for choice in wanted:  # beside those before: some mean nothing alone
        found += [flag for flag in choice.split("|") if works(*found, flag)][:1]
    return found
