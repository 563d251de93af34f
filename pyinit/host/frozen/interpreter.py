# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The distribution's static libpython, made ready for the link."""

import platform
import sys
import sysconfig
from pathlib import Path

# Its memory comes from csrc/runtime/heap.c. Renamed in the archive and not wrapped in the link, so
# that libc's own calls go to libc.
_RENAMED = ("malloc", "calloc", "realloc", "free")

# Constructors and destructors. There are those of mimalloc (3.13) alone, which nothing uses: it
# would fetch random numbers and memory in each process, before main().
_REMOVED = (".init_array", ".fini_array")

# By ID or ID_LIKE of os-release: what has the header files and the static library.
_PACKAGES = {
    "debian": "libpython3-dev",
    "fedora": "python3-devel",
    "rhel": "python3-devel",
    "suse": "python3-devel",
    "arch": "python",
    "alpine": "python3-dev",
}


# Whose private parts csrc/runtime/snapshot.c knows.
VERSIONS = ((3, 11), (3, 13))


class MissingLibraryError(Exception):
    """No position-independent libpython here that can be used, and what to do."""


def library() -> Path:
    """The archive whose objects are position-independent, of the interpreter that runs this.

    MissingLibraryError where there is none.
    """
    if sys.version_info[:2] not in VERSIONS:
        known = " and ".join(f"{major}.{minor}" for major, minor in VERSIONS)
        raise MissingLibraryError(
            f"this is Python {platform.python_version()}, and the executable can be built of "
            f"{known}: run this with one of these"
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = Path(sysconfig.get_config_var("LIBPL")) / f"libpython{version}-pic.a"
    if not path.exists():
        raise MissingLibraryError(
            f"{path} is missing: install {_package()}, and run this with the distribution's own "
            "/usr/bin/python3"
        )
    return path


def renaming(source: Path, target: Path) -> list[str | Path]:
    """The arguments of objcopy that make of `source` the archive that is linked."""
    renamed = [f"--redefine-sym={name}=cfs_{name}" for name in _RENAMED]
    removed = [f"--remove-section={name}" for name in _REMOVED]
    return ["--strip-debug", *renamed, *removed, source, target]


def _package() -> str:
    """What to install for libpython, in the words of this distribution."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        about = {}
    for name in (about.get("ID", ""), *about.get("ID_LIKE", "").split()):
        package = _PACKAGES.get(name)
        if package == _PACKAGES["debian"]:
            return package
        if package is not None:
            return f"{package} (if it has this archive: Debian has, not all have)"
    return "the package with the static, position-independent libpython (Debian: libpython3-dev)"
