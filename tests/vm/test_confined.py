# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The confined reader on the guests' processor: there its filter knows calls by other numbers.

QEMU's emulation of a program alone, which runs what is cross-built, has no seccomp.
"""

import errno
import subprocess
from pathlib import Path

import pytest

from tests.core import build as core_build
from tests.core.system.test_confined import FAULTS, FORBIDDEN, PAYLOAD, SIGSYS, UKI

from .cases import Case, run_cases
from .target import compiler
from .toolbox import Toolbox
from .tools import SOURCES

pytestmark = pytest.mark.vm


@pytest.mark.all_only
def test_a_call_that_reading_does_not_need_kills(toolbox: Toolbox, tmp_path: Path) -> None:
    """On the host's processor: tests/core/system/test_confined.py."""
    program = tmp_path / "core-confined"
    sources = [SOURCES / "core-confined.c", *core_build.CORE, *core_build.IN_FRONT]
    flags = ("-std=gnu17", "-static", "-O1", f"-I{core_build.CSRC}", *core_build.hooks())
    subprocess.run([compiler(), *flags, "-o", program, *sources], check=True, timeout=600)
    script = f"core-confined /guest/uki {len(FORBIDDEN) + 1}"
    results = run_cases(
        toolbox,
        toolbox.kernel("stable"),
        [Case("attempts", script)],
        files={"usr/bin/core-confined": program, "guest/uki": UKI},
    )
    killed = f"the confined reader failed (wait status {SIGSYS:#x})"
    assert FAULTS[1 : len(FORBIDDEN) + 1] == FORBIDDEN
    assert results.check("attempts").stdout.splitlines() == [
        f"0 {len(PAYLOAD)} ",
        *(f"{FAULTS.index(fault)} {-errno.EPROTO} {killed}" for fault in FORBIDDEN),
    ]
