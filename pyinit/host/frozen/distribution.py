# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The distribution's static, position-independent libpython (Debian has one)."""

import platform
import sys
import sysconfig
from pathlib import Path

# By ID or ID_LIKE of os-release: what has the header files and the static library.
_PACKAGES = {
    "debian": "libpython3-dev",
    "fedora": "python3-devel",
    "rhel": "python3-devel",
    "suse": "python3-devel",
    "arch": "python",
    "alpine": "python3-dev",
}


class MissingLibraryError(Exception):
    """No position-independent libpython here that can be used, and what to do."""


def library() -> Path:
    """The archive whose objects are position-independent, of the interpreter that runs this.

    MissingLibraryError where there is none.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = Path(sysconfig.get_config_var("LIBPL")) / f"libpython{version}-pic.a"
    if not path.exists():
        raise MissingLibraryError(
            f"{path} is missing: install {_package()}, and run this with the distribution's own "
            "/usr/bin/python3. Without INTERPRETER=distribution it is built from source"
        )
    return path


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
