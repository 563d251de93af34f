# SPDX-License-Identifier: Apache-2.0 OR MIT
"""apt with lists and files of its own: it fetches, and changes nothing of the machine's."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


class AptError(Exception):
    """apt, or a tool for packages, failed, and what it said."""


def compare(one: str, other: str) -> int:
    """Less than, equal to or greater than 0: which version of a package is older."""
    if one == other:
        return 0
    command = ["dpkg", "--compare-versions", one, "lt", other]
    return -1 if subprocess.run(command, check=False).returncode == 0 else 1


by_version = functools.cmp_to_key(compare)
"""For sorted(): versions in Debian's order."""


class Apt:
    """apt with lists and files of its own below `place`; the machine's stay as they are.

    It has the sources of packages, or with an `architecture` (as Debian names it) the packages.
    """

    def __init__(self, place: Path, architecture: str | None = None) -> None:
        self._place = emptied(place)
        self._architecture = architecture
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (place / name).mkdir(parents=True)
        (place / "status").touch()
        (place / "sources.list").write_text("\n".join([*_lines(architecture), ""]))

    def versions(self, package: str) -> list[str]:
        """Those of the source package that the mirrors offer, the newest first. AptError."""
        said = run([*self._command("apt-cache"), "showsrc", "--only-source", package])
        found = set(re.findall(r"^Version: (\S+)$", said, re.MULTILINE))
        if not found:
            raise AptError(f"no source of {package} on this machine's mirrors")
        return sorted(found, key=by_version, reverse=True)

    def fetch(self, package: str, wanted: str) -> Path:
        """The .dsc of this version, beside its other files. AptError."""
        files = emptied(self._place / "files")
        command = [*self._command("apt-get"), "source", "--download-only", f"{package}={wanted}"]
        run(command, files)
        found = sorted(files.glob("*.dsc"))
        if len(found) != 1:
            raise AptError(f"apt-get source {package}={wanted}: {len(found)} .dsc files")
        return found[0]

    def package(self, name: str) -> Path:
        """The newest version of a package, as a file. AptError."""
        files = emptied(self._place / "files")
        run([*self._command("apt-get"), "download", name], files)
        found = sorted(files.glob("*.deb"))
        if len(found) != 1:
            raise AptError(f"apt-get download {name}: {len(found)} packages")
        return found[0]

    def update(self) -> None:
        """Fetches the lists. AptError: not all could be."""
        run([*self._command("apt-get"), "update", "--error-on=any"])

    def _command(self, program: str) -> list[str]:
        place = self._place.absolute()
        options = {
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::Etc::sourceparts": place / "parts",
            "Dir::State": place,
            "Dir::State::status": place / "status",
            "Dir::Cache": place / "cache",
            **(
                {"APT::Architecture": self._architecture, "APT::Architectures": self._architecture}
                if self._architecture
                else {}
            ),
            "Debug::NoLocking": "true",  # of the machine's lists, which are not touched
            "APT::Sandbox::User": "root",  # _apt may not be able to enter this directory
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            # Whatever the machine's own settings are.
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
        }
        return [program, "-q", *(f"-o{name}={value}" for name, value in options.items())]


_TARGET = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"


def _lines(architecture: str | None) -> list[str]:
    """Of a list of sources: the machine's suites."""
    command = ["apt-get", "indextargets", "--format", _TARGET, "Identifier: Packages"]
    # The second way lists suites whose lists were removed too, as in a container's image.
    said = run(command) or run([*command, "--no-release-info"])
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    lines = sorted(source_lines(said, keyring if keyring.exists() else None, architecture))
    if not lines:
        raise AptError("this machine's apt knows no mirror of the distribution")
    return lines


def source_lines(targets: str, keyring: Path | None, architecture: str | None = None) -> set[str]:
    """Of `apt-get indextargets`, in the form of _TARGET: lines of sources.list(5), of the sources
    of packages, or of the packages for one architecture.

    The distribution's: packages of others have no source of Python, or another one.
    """
    kind = "deb" if architecture else "deb-src"
    signed = f"[signed-by={keyring}] " if keyring else ""
    lines = set()
    for target in targets.splitlines():
        uri, release, component, origin = target.split("|")
        known = origin in ("Debian", "$(ORIGIN)")  # the latter: its list was not fetched yet
        if component == "main" and known and not uri.startswith("cdrom:"):
            lines.add(f"{kind} {signed}{uri} {release} main")
    return lines


def emptied(place: Path) -> Path:
    """`place` as a new directory: what was there is removed."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def run(command: Sequence[str | Path], place: Path | None = None) -> str:
    """Its standard output. AptError: it failed, and what it said of that."""
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(
            line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg", "tar"))
        )
        raise AptError(f"{' '.join(str(word) for word in command[:2])}: {said or done.stderr}")
    return done.stdout
