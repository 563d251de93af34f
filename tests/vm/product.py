# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The executable under test, and what its messages look like."""

import re
from pathlib import Path
from typing import Any

import pytest

from pyinit.host.frozen import build

from .bundle import bundle
from .once import BUILD, REPOSITORY
from .target import TARGET, compiler

CFS_INIT = BUILD / "cfs-init"
# The other name that cfs-mount is called by, for a guest's set-up.
LINKS = "ln -s cfs-mount /usr/bin/mount.cfs\n"


def cfs_init() -> Path:
    """The one for the guests' machine. FileNotFoundError: not built."""
    if not CFS_INIT.exists():
        raise FileNotFoundError(f"{CFS_INIT}: make {'frozen' if TARGET.native else 'check-arm64'}")
    return CFS_INIT


def another_build(out: Path, **changes: Any) -> Path:
    """Like it, with what a test changes (build.build); made in `out`."""
    with pytest.MonkeyPatch.context() as patch:
        if not TARGET.native:
            patch.setenv("CC", compiler())
        return build.build(REPOSITORY, out, **changes)


def mount_files() -> dict[str, Path | str | bytes]:
    """cfs-mount for a guest, and strace. LINKS is run in its set-up."""
    return {
        "usr/bin/cfs-mount": cfs_init(),
        **bundle("strace", "usr/bin/strace"),
    }


def refusal(
    step: str,
    path: str,
    found: str,
    expected: str = "",
    *,
    verdict: str = "refused",
    program: str = "cfs-mount",
) -> str:
    """Regular expression of the one line on stderr; step, path, found, expected are such too."""
    tail = f", expected {expected}" if expected else ""
    return rf"\A{re.escape(program)}: {verdict}: {step}: {path}: {found}{tail}\n\Z"
