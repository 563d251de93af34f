#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""packaging/release.py VERSION [--date YYYY-MM-DD]: prepares a release in the tree.

The version that counts is that of pyinit/__init__.py. It is written there, and into what cannot
read it: the packages of Debian and RPM, and the manuals. The section Unreleased of CHANGELOG.md
becomes the version's. Everything is checked before anything is written.
"""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")
MAINTAINER = "pyinit maintainers <maintainers@pyinit.invalid>"
# English, whatever the locale is: both formats demand it.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ReleaseError(Exception):
    """What stands in the way; nothing was written."""


def current(root: Path) -> str:
    """The version of the tree."""
    return _one(r'^VERSION = "(.*)"$', (root / "pyinit/__init__.py").read_text())


def stated(root: Path) -> dict[str, str]:
    """Each file that states the version, and what it states; current() should be all."""
    found = {
        "pyinit/__init__.py": current(root),
        "CHANGELOG.md": _one(r"^## ([0-9]\S*)", (root / "CHANGELOG.md").read_text()),
        "debian/changelog": _one(r"\Apyinit \((.*)-", (root / "debian/changelog").read_text()),
        "packaging/pyinit.spec": _one(
            r"^Version: +(\S+)$", (root / "packaging/pyinit.spec").read_text()
        ),
    }
    for page in sorted((root / "man").iterdir()):
        found[f"man/{page.name}"] = _one(r"^\.Os pyinit (\S+)$", page.read_text())
    return found


def _one(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ReleaseError(f"no line like {pattern}")
    return match[1]


def prepare(root: Path, version: str, date: dt.date) -> list[str]:
    """Writes `version` everywhere; the names of the changed files. ReleaseError."""
    old = current(root)
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version}: expected X.Y.Z")
    if _numbers(version) <= _numbers(old):
        raise ReleaseError(f"{version}: expected more than {old}")
    for name, known in stated(root).items():
        if known != old:
            raise ReleaseError(f"{name}: {known}, expected {old}")

    entry = f"{_MONTHS[date.month - 1]} {date.day:02d} {date.year}"
    changes: dict[str, Callable[[str], str]] = {
        "pyinit/__init__.py": lambda text: text.replace(f'"{old}"', f'"{version}"'),
        "CHANGELOG.md": lambda text: _close(text, version, date),
        "debian/changelog": lambda text: (
            f"pyinit ({version}-1) unstable; urgency=medium\n\n"
            "  * New release; see CHANGELOG.md.\n\n"
            f" -- {MAINTAINER}  {_DAYS[date.weekday()]}, {date.day:02d} "
            f"{_MONTHS[date.month - 1]} {date.year} 12:00:00 +0000\n\n{text}"
        ),
        "packaging/pyinit.spec": lambda text: re.sub(
            r"^(Version: +).*$", rf"\g<1>{version}", text, flags=re.MULTILINE
        ).replace(
            "%changelog\n",
            f"%changelog\n* {_DAYS[date.weekday()]} {entry} {MAINTAINER} - {version}-1\n"
            "- New release; see CHANGELOG.md.\n\n",
        ),
    }
    for page in (root / "man").iterdir():
        changes[f"man/{page.name}"] = lambda text: re.sub(
            r"^\.Os pyinit .*$", f".Os pyinit {version}", text, flags=re.MULTILINE
        )
    written = {name: change((root / name).read_text()) for name, change in changes.items()}
    for name, text in written.items():
        (root / name).write_text(text)
    return sorted(written)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _close(text: str, version: str, date: dt.date) -> str:
    head, found, rest = text.partition("## Unreleased\n")
    news = rest.partition("\n## ")[0]
    if not found or not news.strip():
        raise ReleaseError("CHANGELOG.md: nothing under Unreleased")
    return f"{head}{found}\n## {version} ({date.isoformat()})\n{rest}"


def main() -> int:
    """0, or 1 and a line on stderr."""
    parser = argparse.ArgumentParser(description="Writes a new version into the tree.")
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--date", type=dt.date.fromisoformat, default=None)
    options = parser.parse_args()
    date = options.date or dt.datetime.now(dt.UTC).date()
    try:
        changed = prepare(ROOT, options.version, date)
    except ReleaseError as error:
        sys.stderr.write(f"release.py: {error}\n")
        return 1
    version = options.version
    sys.stdout.write(
        "".join(f"{name}\n" for name in changed)
        + f"now: git diff; git commit -am 'release {version}'; git tag -s v{version}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
