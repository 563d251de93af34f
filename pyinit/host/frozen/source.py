# SPDX-License-Identifier: Apache-2.0 OR MIT
"""CPython's source: where it comes from, and that it is the one that is known.

Debian's is the one with Debian's security fixes. apt checks it against the archive's signature, and
dpkg-source against the hashes of its .dsc. Elsewhere PYTHON_SOURCE names an archive, whose SHA-256
has to be known here, or an unpacked tree, as it lies in a package's source.
"""

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Protocol

from pyinit.host.frozen.apt import Apt, AptError, compare, emptied, run
from pyinit.host.frozen.locked import locked

# PYTHON_SOURCE: python.org's archives, by their SHA-256.
KNOWN = {
    "2411c74bda5bbcfcddaf4531f66d1adc73f247f529aee981b029513aefdbf849": "3.11.2 (.tar.gz)",
    "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640": "3.13.5 (.tar.xz)",
}

# Of the source, what building the core takes. The rest is 100 MB.
_NEEDED = (
    "Include", "Objects", "Python", "Modules/clinic", "LICENSE", "Makefile.pre.in", "config.guess",
    "config.sub", "configure", "install-sh", "pyconfig.h.in",
)  # fmt: skip
_NEEDED_FILES = (
    "Misc/*.in", "Modules/*.[ch]", "Modules/*.in", "Modules/Setup*", "Parser/**/*.h",
)  # fmt: skip
_MAKESETUP = "Modules/makesetup"

_VERSION_FILE = "Include/patchlevel.h"
# What dpkg-source wrote down of the version that was fetched.
DEBIAN_VERSION = "debian-version"
# What was said of newer versions that could not be fetched; empty where there are none.
BEHIND = "behind"


class SourceError(Exception):
    """No source of CPython, or not the right one, and what to do."""


def tree(work: Path) -> Path:
    """The directory with the source: that of PYTHON_SOURCE, else Debian's, which is fetched once.

    Its minor version is that of the interpreter that runs this, which compiles the frozen modules.
    SourceError.
    """
    given = os.environ.get("PYTHON_SOURCE")
    with locked(work / "lock"):
        if not given:
            found = _debian(work)
        elif Path(given).is_dir():
            found = Path(given)
            if (found / "Makefile").exists():  # make would take objects that are there
                raise SourceError(f"PYTHON_SOURCE: {found}: something was built in it: clean it")
        else:
            found = _unpacked(Path(given), work)
    have, wanted = version(found), sys.version_info[:2]
    if have[:2] != wanted:
        raise SourceError(
            f"{found}: the source of Python {'.'.join(map(str, have))}, and this is run by "
            f"{wanted[0]}.{wanted[1]}: both have to be of one minor version"
        )
    return found


def behind(work: Path) -> str:
    """Where a newer source is on offer than what builds take: what to say and do. Empty: none is.

    It asks the mirrors anew, and fetches a source where there is none yet. AptError,
    SourceError.
    """
    if given := os.environ.get("PYTHON_SOURCE"):
        return f"PYTHON_SOURCE is {given}: whether that is the newest is not known here"
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / "lock"):
        place = _debian(work)
        package = place.name.removeprefix("source-")
        apt = Apt(work / "apt")
        apt.update()
        offered = apt.versions(package)
        shutil.rmtree(work / "apt")
    return _older(place, package, offered[0])


def _older(place: Path, package: str, newest: str) -> str:
    have = (place / DEBIAN_VERSION).read_text().strip()
    if compare(have, newest) >= 0:
        return ""
    return (
        f"{package} {have} is built from, and {newest} is on offer: do not release what is built. "
        "`make clean` has the next build fetch it, where the mirror has it"
    )


def version(found: Path) -> tuple[int, int, int]:
    """(major, minor, micro) of a source tree. SourceError: it is none."""
    try:
        text = (found / _VERSION_FILE).read_text()
    except OSError as error:
        raise SourceError(f"no source of Python: {error}") from None
    numbers = [
        int(value)
        for name in ("MAJOR", "MINOR", "MICRO")
        for value in re.findall(rf"^#define PY_{name}_VERSION\s+(\d+)", text, re.MULTILINE)
    ]
    if len(numbers) != 3:
        raise SourceError(f"{found / _VERSION_FILE}: no version of Python")
    return numbers[0], numbers[1], numbers[2]


def _unpacked(archive: Path, work: Path) -> Path:
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"PYTHON_SOURCE: {error}") from None
    if digest not in KNOWN:
        known = ", ".join(KNOWN.values())
        raise SourceError(
            f"PYTHON_SOURCE: {archive}: its SHA-256 is {digest}, which is that of none that is "
            f"known ({known}). If it is right, add it to KNOWN in {__file__}"
        )
    place = work / f"source-{digest[:16]}"
    if not place.exists():
        full = emptied(work / "unpacked")
        run(["tar", "-xf", archive, "-C", full, "--strip-components=1", "--no-same-owner"])
        _keep(full, place)
    return place


def _debian(work: Path) -> Path:
    """Fetched by apt with a list of sources of its own, which has what this machine's list has."""
    package = f"python{sys.version_info.major}.{sys.version_info.minor}"
    place = work / f"source-{package}"
    if place.exists():
        _say_behind(place)
        return place
    missing = [name for name in ("apt-get", "dpkg-source") if shutil.which(name) is None]
    if missing:
        raise SourceError(
            f"CPython's source: {missing[0]} is missing (Debian: dpkg-dev). Elsewhere "
            "PYTHON_SOURCE=FILE names the archive of python.org, or build with "
            "INTERPRETER=distribution"
        )
    apt = Apt(work / "apt")
    try:
        apt.update()
        description, behind = _newest(apt, package)
        full = work / "apt" / "unpacked"  # dpkg-source leaves files beside it
        run(["dpkg-source", "-q", "--extract", description, full])
        (full / DEBIAN_VERSION).write_text(f"{_field(description.read_text(), 'Version')}\n")
        (full / BEHIND).write_text(behind)
    except (AptError, SourceError) as error:
        raise SourceError(
            f"{error}\nThe interpreter's source comes from Debian's mirror, once. Without a "
            "network PYTHON_SOURCE=FILE names python.org's archive, or build with "
            "INTERPRETER=distribution"
        ) from None
    _keep(full, place)
    shutil.rmtree(work / "apt")
    _say_behind(place)
    return place


class Mirror(Protocol):
    """Of a source package, the versions on offer, the newest first, and the .dsc of one."""

    def versions(self, package: str) -> list[str]: ...

    def fetch(self, package: str, wanted: str) -> Path: ...


def _newest(apt: Mirror, package: str) -> tuple[Path, str]:
    """The .dsc of the newest version that can be had, and what is to be said of newer ones."""
    refused: list[str] = []
    for wanted in apt.versions(package):
        try:
            found = apt.fetch(package, wanted)
        except AptError as error:
            refused.append(f"{package} {wanted} is offered, and cannot be fetched: {error}")
            continue
        if refused:
            refused.append(
                f"{package} {wanted} is taken, which is behind: do not release what is built. "
                "`make clean` has the next build look again"
            )
        return found, "\n".join(refused)
    raise SourceError("\n".join(refused))


def _say_behind(place: Path) -> None:
    """At each build: whoever releases must not miss it."""
    for line in (place / BEHIND).read_text().splitlines():
        _say(line)


def _say(line: str) -> None:
    sys.stderr.write(f"build_frozen: {line}\n")


def _keep(full: Path, place: Path) -> None:
    """Moves what is needed of `full` to `place`, and removes the rest."""
    partial = emptied(place.with_name(f"{place.name}.partial"))
    names = {*_NEEDED, _MAKESETUP}
    for pattern in _NEEDED_FILES:
        names |= {str(path.relative_to(full)) for path in full.glob(pattern)}
    names |= {name for name in (DEBIAN_VERSION, BEHIND) if (full / name).exists()}
    for name in sorted(names):
        target = partial / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            (full / name).rename(target)
        except FileNotFoundError:
            raise SourceError(f"{full}: {name} is missing") from None
    shutil.rmtree(full)
    partial.rename(place)


def _field(description: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", description, re.MULTILINE)
    if found is None:
        raise SourceError(f"a .dsc without {name}")
    return found[1]
