# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The hardening flags of both builds: the executable for the initrd and the extension module.

Those of the OpenSSF guide, https://best.openssf.org/Compiler-Hardening-Guides/, of June 2025. It
imports nothing of this package: setup.py uses it before anything is installed.
"""

import functools
import os
import platform
import subprocess

HARDENING = (
    "-Wall -Wextra -Wformat=2 -Wconversion -Wimplicit-fallthrough -Werror=format-security "
    "-Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion "
    "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-clash-protection -fstack-protector-strong "
    "-ftrivial-auto-var-init=zero -fno-delete-null-pointer-checks -fno-strict-overflow "
    "-fno-strict-aliasing"
).split()
BRANCHES = {"x86_64": ["-fcf-protection=full"], "aarch64": ["-mbranch-protection=standard"]}
# Of newer compilers (gcc 13 and 15), or of one of the two families.
WHERE_KNOWN = (
    "-fstrict-flex-arrays=3",
    "-fzero-init-padding-bits=all",
    "-Wtrampolines",
    "-Wbidi-chars=any",
)
# Of a shared object. Not nodlopen: the interpreter loads it by dlopen. The executable has these as
# far as they mean something for a static file.
LINK_SHARED = (
    "-Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,-z,separate-code -Wl,--as-needed "
    "-Wl,--no-copy-dt-needed-entries"
).split()


def compiler() -> list[str]:
    """The C compiler as the environment names it, else gcc."""
    return os.environ.get("CC", "gcc").split()


def hardening() -> list[str]:
    """Flags to compile with, of this machine's compiler."""
    branches = BRANCHES.get(platform.machine(), [])
    return [*HARDENING, *branches, *filter(_is_known, WHERE_KNOWN)]


@functools.cache
def _is_known(flag: str) -> bool:
    done = subprocess.run(
        [*compiler(), "-Werror", flag, "-x", "c", "-c", "-", "-o", "/dev/null"],
        input=b"int main(void) { return 0; }",
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
