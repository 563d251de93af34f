# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Debian packages of any suite, without touching the machine: apt with private directories.

The mirror and how to reach it (proxies) are those of the machine's own apt; its hooks, pins,
sources and installed packages play no part. Archive signatures are checked against the
debian-archive-keyring of the machine.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
# Acquire::AllowInsecureRepositories and its like would turn signature checks off. Whether an old
# Release file is taken (Check-Valid-Until) stays the machine's decision: its mirror, its clock.
_NOT_TAKEN_OVER = ("Acquire::IndexTargets", "Acquire::Allow")
# A stalled mirror must not stall the tests for ever.
_LIMIT_SECONDS = 1800


class PackageError(Exception):
    """A package could not be found or fetched."""


class SuiteGoneError(PackageError):
    """The mirror has no such suite."""


def say(text: str) -> None:
    """One line of progress, for what takes long."""
    print(f"toolbox: {text}", file=sys.stderr, flush=True)


def machine_mirror() -> str:
    """The archive that the machine itself uses. PackageError: its apt names none."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    ).stdout
    for line in targets.splitlines():
        release, component, uri = line.split(" ", 2)
        if release == codename and component == "main":
            return uri
    raise PackageError(f"apt's sources name no mirror of {codename} (main)")


def keyring() -> str:
    """The file with the keys of Debian's archives."""
    for name in _KEYRINGS:
        if os.path.exists(name):
            return name
    raise PackageError("no debian-archive-keyring on this machine (apt install it)")


def machine_acquire_settings() -> str:
    """Proxies and the like of the machine: the Acquire:: part of its apt configuration."""
    dump = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, timeout=600, check=True
    ).stdout
    return "".join(
        f"{line}\n"
        for line in dump.splitlines()
        if line.startswith("Acquire::") and not line.startswith(_NOT_TAKEN_OVER)
    )


class Suite:
    """One Debian suite ("trixie", "trixie-backports", ...) seen through a private apt."""

    def __init__(
        self, name: str, directory: Path, architecture: str = "amd64", kind: str = "deb"
    ) -> None:
        """`kind`: deb-src for sources."""
        self.name = name
        self._kind = kind
        self._architecture = architecture
        self._directory = directory
        self._updated = False

    def _run(self, arguments: Sequence[str], directory: Path | None = None) -> str:
        done = subprocess.run(
            arguments,
            env={**os.environ, "APT_CONFIG": str(self._directory / "apt.conf"), "LC_ALL": "C"},
            cwd=directory,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            said = _errors(done.stderr)
            kind = SuiteGoneError if "does not have a Release file" in said else PackageError
            raise kind(f"suite {self.name}: {' '.join(arguments[:3])}: {said}")
        return done.stdout

    def _update(self) -> None:
        if self._updated:
            return
        base = self._directory
        for name in ("lists/partial", "archives/partial", "parts", "log"):
            (base / name).mkdir(parents=True, exist_ok=True)
        # Empty: nothing counts as installed, so dependencies are resolved down to libc.
        (base / "status").write_text("")
        (base / "sources.list").write_text(
            f"{self._kind} [signed-by={keyring()}] {machine_mirror()} {self.name} main\n"
        )
        own = {
            "Dir::Etc::sourcelist": base / "sources.list",
            "Dir::Etc::sourceparts": base / "parts",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": base / "parts",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": base / "parts",
            "Dir::State": base,
            "Dir::State::lists": base / "lists",
            "Dir::State::status": base / "status",
            "Dir::State::extended_states": base / "extended_states",
            "Dir::Cache": base,
            "Dir::Cache::archives": base / "archives",
            "Dir::Log": base / "log",
            "APT::Architecture": self._architecture,
            "APT::Install-Recommends": "false",
            # No lock of the machine's is needed; the Toolbox holds one of its own.
            "Debug::NoLocking": "true",
            # The user _apt often cannot enter a build directory; signatures are what counts.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
            "Acquire::Retries": "3",
            "Acquire::GzipIndexes": "true",
            "Dir::Cache::srcpkgcache": "",
        }
        (base / "apt.conf").write_text(
            machine_acquire_settings()
            + f'APT::Architectures {{ "{self._architecture}"; }};\n'
            + "".join(f'{key} "{value}";\n' for key, value in own.items())
        )
        say(f"package lists of {self.name}")
        self._run(["apt-get", "-q", "update", "--error-on=any"])
        self._updated = True

    def version(self, package: str) -> str | None:
        """Version of the newest `package` in this suite, None if it has none."""
        return self._field(package, "Version")

    def depends(self, package: str) -> list[str]:
        """Names that `package` depends on: the first of alternatives, versions dropped."""
        text = self._field(package, "Depends") or ""
        return [
            re.split(r"[ :(|]", part.strip(), maxsplit=1)[0] for part in text.split(",") if part
        ]

    def _field(self, package: str, field: str) -> str | None:
        self._update()
        try:
            record = self._run(["apt-cache", "show", "--no-all-versions", package])
        except PackageError:
            return None
        found = re.search(rf"^{field}: (.*)$", record, re.MULTILINE)
        return found.group(1) if found else None

    def source(self, package: str, directory: Path) -> Path:
        """Fetch the newest source of `package` into `directory`: the archive of its authors."""
        self._update()
        say(f"fetching the source of {package} from {self.name}")
        arguments = ["apt-get", "-q", "source", "--only-source", "--download-only", package]
        self._run(arguments, directory=directory)
        [archive] = directory.glob("*.orig.tar.*z*")
        return archive

    def unpack(self, packages: Iterable[str], tree: Path, *, dependencies: bool) -> None:
        """Fetch `packages` (and all they depend on) and unpack them into `tree`."""
        self._update()
        names = list(packages)
        say(f"fetching from {self.name}: {' '.join(names)}")
        archives = self._directory / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        if dependencies:
            self._run(["apt-get", "-q", "-y", "install", "--download-only", *names])
        else:
            self._run(["apt-get", "-q", "download", *names], directory=archives)
        files = sorted(archives.glob("*.deb"))
        say(f"unpacking {len(files)} packages")
        for file in files:
            _unpack(file, tree)
            file.unlink()


def _errors(stderr: str) -> str:
    """What apt says of the cause, on one line."""
    lines = [line[2:].strip() for line in stderr.splitlines() if line.startswith("E:")]
    return "; ".join(dict.fromkeys(lines)) or " ".join(stderr.split())[-500:] or "no message"


def _unpack(package: Path, tree: Path) -> None:
    # Not dpkg-deb -x: it replaces the symlink lib -> usr/lib by an older package's directory.
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
    ) as archive:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(tree)],
            stdin=archive.stdout,
            timeout=_LIMIT_SECONDS,
            check=True,
        )
    if archive.returncode:
        raise PackageError(f"{package}: dpkg-deb: exit {archive.returncode}")
