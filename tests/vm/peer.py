# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Programs of composefs-rs, built by cargo: what boots such disks, and what looks after their
repositories, where we do not."""

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
    return _built("composefs-setup-root", "composefs-setup-root")


def cfsctl() -> Path:
    """The one in PATH; else built once, which takes half an hour and fetches 300 crates."""
    if found := shutil.which("cfsctl"):
        return Path(found)
    # Without what needs another machine than this: FUSE, the storage of podman.
    return _built("composefs-ctl", "cfsctl", "--no-default-features", "--features=oci,pre-6.15")


def _built(crate: str, program: str, *options: str) -> Path:
    def make(directory: Path) -> None:
        done = subprocess.run(
            [
                cargo() or "cargo", "install", "--locked", "--quiet", "--root", str(directory),
                "--target-dir", str(directory / "target"), *options, f"{crate}@{VERSION}",
            ],
            capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"cargo: exit {done.returncode}: {done.stderr[-2000:]}")
        shutil.rmtree(directory / "target")

    return made_once(BUILD / "vm-cache" / crate, VERSION, make) / "bin" / program
