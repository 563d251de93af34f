# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The programs of others that ours is measured beside, and what each has to have with it."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.vm.bundle import bundle
from tests.vm.once import BUILD, made_once
from tests.vm.toolbox import Toolbox

MOUNT, SETUP_ROOT = "mount.composefs", "composefs-setup-root"
MOUNT_HEAD = "mount.composefs-head"
_VERSION = "0.9.4"
_NATIVE = ("CARGO_TARGET_DIR", "RUSTFLAGS")


def mount(toolbox: Toolbox) -> dict[str, Path]:
    """mount.composefs, by the place in an initrd: the package's, and its libraries."""
    return _files(bundle(MOUNT, f"usr/sbin/{MOUNT}", toolbox.peers, toolbox.tree))


def mount_head() -> dict[str, Path]:
    """The same of a newer composefs, and its libraries: COMPOSEFS in the environment names the
    directory that Meson built it in. Empty where it does not."""
    if not (built := os.environ.get("COMPOSEFS")):
        return {}
    place = BUILD / "bench" / MOUNT_HEAD
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copy(Path(built, "tools", MOUNT), place / MOUNT_HEAD)
    shutil.copy(Path(built, "libcomposefs/libcomposefs.so.1"), place)
    return _files(bundle(MOUNT_HEAD, str(place / MOUNT_HEAD)))


def setup_root() -> dict[str, Path]:
    """composefs-setup-root, stripped, and its libraries; empty where there is no cargo.

    SETUP_ROOT in the environment names one that is built.
    """
    cargo = shutil.which("cargo")
    built = os.environ.get("SETUP_ROOT")
    if not cargo and not built:
        return {}

    def make(directory: Path) -> None:
        program = Path(built or directory / "bin" / SETUP_ROOT)
        if not built:
            command = [str(cargo), "install", "-q", "--locked", "--root", str(directory)]
            environment = {name: value for name, value in os.environ.items() if name not in _NATIVE}
            subprocess.run(
                [*command, "--version", _VERSION, SETUP_ROOT],
                env={**environment, "CARGO_TARGET_DIR": str(directory / "target")},
                check=True,
                timeout=3600,
            )
            shutil.rmtree(directory / "target")
        subprocess.run(["strip", "-o", directory / SETUP_ROOT, program], check=True, timeout=60)

    place = made_once(BUILD / "bench" / SETUP_ROOT, f"{_VERSION} {built}", make)
    return _files(bundle(SETUP_ROOT, str(place / SETUP_ROOT)))


def _files(found: dict[str, Path | str]) -> dict[str, Path]:
    return {name: path for name, path in found.items() if isinstance(path, Path)}


def command(name: str) -> str:
    """How a guest runs it, without a shell in between."""
    home = f"/opt/{name}"
    return f"{home}/ld-linux-x86-64.so.2 --library-path {home} {home}/{name}"


def sizes(files: list[Path]) -> tuple[int, int]:
    """Bytes, and those under zstd -19: one file behind the other, as in an initrd."""
    content = b"".join(path.read_bytes() for path in files)
    packed = subprocess.run(
        ["zstd", "-19", "-q", "-c"], input=content, capture_output=True, check=True, timeout=300
    )
    return len(content), len(packed.stdout)
