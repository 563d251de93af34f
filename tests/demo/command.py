# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The product's own commands, from this checkout."""

import os
import subprocess
import sys
from pathlib import Path

from tests.vm.once import REPOSITORY

_LIMIT_SECONDS = 600


def python_path() -> list[Path]:
    """Where the product's modules are, and the extension that `make extension` built."""
    return [REPOSITORY, REPOSITORY / "build" / "lib"]


def product(*arguments: str) -> str:
    """Runs `cfs-store ...` or `cfs-uki ...`; its stdout. RuntimeError with its stderr."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("product.py")), *arguments],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, python_path()))},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
