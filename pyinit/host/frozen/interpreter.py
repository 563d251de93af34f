# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The interpreter that is linked: from CPython's source, or the distribution's static library."""

import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.frozen import apt, core, distribution, flags, foreign, libc, source
from pyinit.host.frozen.locked import locked

# The words of INTERPRETER and `build_frozen --interpreter`.
SOURCE, DISTRIBUTION = "source", "distribution"
KINDS = (SOURCE, DISTRIBUTION)

# Whose private parts csrc/runtime/snapshot.c knows.
VERSIONS = ((3, 11), (3, 13))

# Its memory comes from csrc/runtime/heap.c. Renamed in the archive and not wrapped in the link, so
# that libc's own calls go to libc.
_RENAMED = ("malloc", "calloc", "realloc", "free")

# Constructors and destructors. There are those of mimalloc (3.13) alone, which nothing uses: it
# would fetch random numbers and memory in each process, before main().
_REMOVED = (".init_array", ".fini_array")


class InterpreterError(Exception):
    """No interpreter can be linked here, and what to do."""


FAILURES = (
    InterpreterError,
    apt.AptError,
    core.CoreError,
    distribution.MissingLibraryError,
    foreign.ForeignError,
    libc.LibcError,
    source.SourceError,
)
"""What `interpreter` raises where it fails and the text says all."""


@dataclass(frozen=True)
class Interpreter:
    """What the executable is compiled for and linked with."""

    archive: Path  # position-independent objects
    includes: Sequence[Path]
    libc: libc.Libc
    tree: Path | None  # CPython's source; None: the distribution's library


def interpreter(kind: str, work: Path) -> Interpreter:
    """That of `kind`, one of KINDS; `work` keeps what is fetched and compiled for it.

    One of FAILURES where there is none: there is no other way then.
    """
    if kind not in KINDS:
        raise InterpreterError(f"INTERPRETER is {kind!r}, expected {' or '.join(KINDS)}")
    if sys.version_info[:2] not in VERSIONS:
        known = " and ".join(f"{major}.{minor}" for major, minor in VERSIONS)
        raise InterpreterError(
            f"this is Python {platform.python_version()}, and the executable can be built of "
            f"{known}: run this with one of these"
        )
    if kind == DISTRIBUTION:
        if processor := flags.foreign():
            work.mkdir(parents=True, exist_ok=True)
            with locked(work / "lock"):
                archive, includes = foreign.libpython(processor, work)
            return Interpreter(archive, includes, libc.glibc(), None)
        include = Path(sysconfig.get_path("include"))
        return Interpreter(distribution.library(), [include], libc.glibc(), None)
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / "lock"):
        musl = libc.musl(work)
    tree = source.tree(work)
    built = core.build(tree, musl, work)
    return Interpreter(built / core.ARCHIVE, [built, tree / "Include"], musl, tree)


def renaming(archive: Path, target: Path) -> list[str | Path]:
    """The arguments of objcopy that make of `archive` the one that is linked."""
    renamed = [f"--redefine-sym={name}=cfs_{name}" for name in _RENAMED]
    removed = [f"--remove-section={name}" for name in _REMOVED]
    return ["--strip-debug", *renamed, *removed, archive, target]
