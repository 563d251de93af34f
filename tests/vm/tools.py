# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The small static C programs that guests use, compiled once."""

import hashlib
import subprocess
from pathlib import Path

from .once import BUILD, made_once
from .target import compiler

SOURCES = Path(__file__).parent / "guest-tools"

PROGRAMS = {
    "verity.c": ("verity-enable", "measure", "readall", "fds"),
    "runner.c": ("limit", "snapshot"),
    "tree.c": ("dumptree",),
    "swap.c": ("swap",),
    "mksocket.c": ("mksocket",),
    "xattr.c": ("setxattr", "getxattr"),
    "fileattr.c": ("fileattr",),
    "nanoseconds.c": ("nanoseconds",),
    "disk-watch.c": (),  # for disk_watch.py
    "tpm-proxy.c": (),  # for a TPM that answers wrong
    "crash-first.c": (),  # for the guest that has crashed
    "root-init.c": (),  # for root images, not for guests
}

_FLAGS = ("-std=c17", "-static", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def guest_tools() -> dict[str, Path]:
    """Name in the guest to executable; several names may be one file."""
    directory = _compiled()
    return {
        program: directory / source.removesuffix(".c")
        for source, programs in PROGRAMS.items()
        for program in programs
    }


def root_init() -> Path:
    """/sbin/init for a root image: shows what it finds and powers off."""
    return _compiled() / "root-init"


def disk_watch() -> Path:
    """Lists who touches a disk: see disk_watch.py."""
    return _compiled() / "disk-watch"


def tpm_proxy() -> Path:
    """A TPM beside the guest's own that answers wrong, or never."""
    return _compiled() / "tpm-proxy"


def crash_first() -> Path:
    """An /init that crashes, and has another kernel started then (kdump)."""
    return _compiled() / "crash-first"


def _compiled() -> Path:
    sources = {name: (SOURCES / name).read_bytes() for name in PROGRAMS}
    key = hashlib.sha256(repr((_FLAGS, sources)).encode()).hexdigest()
    return made_once(BUILD / "vm-cache" / "guest-tools", key, _compile)


def _compile(directory: Path) -> None:
    for source in PROGRAMS:
        output = directory / source.removesuffix(".c")
        subprocess.run(
            [compiler(), *_FLAGS, "-s", "-o", output, SOURCES / source], check=True, timeout=600
        )
