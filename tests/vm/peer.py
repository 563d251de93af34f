# SPDX-License-Identifier: Apache-2.0 OR MIT
"""composefs-setup-root of composefs-rs, built by cargo: what boots such disks where we do not."""

import shutil
import subprocess
from pathlib import Path

from .once import BUILD, made_once

VERSION = "0.9.4"
_LIMIT_SECONDS = 3600


def cargo() -> str | None:
    """The program, if there is one."""
    return shutil.which("cargo")


def setup_root() -> Path:
    """The executable; built once, which takes minutes and fetches 200 crates."""

    def make(directory: Path) -> None:
        done = subprocess.run(
            [
                cargo() or "cargo", "install", "--locked", "--quiet", "--root", str(directory),
                "--target-dir", str(directory / "target"), f"composefs-setup-root@{VERSION}",
            ],
            capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"cargo: exit {done.returncode}: {done.stderr[-2000:]}")
        shutil.rmtree(directory / "target")

    place = made_once(BUILD / "vm-cache" / "composefs-setup-root", VERSION, make)
    return place / "bin/composefs-setup-root"
