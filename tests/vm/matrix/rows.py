# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a row of the table is."""

from dataclasses import dataclass

from tests.vm.kernels import MOUNTS, REFUSES

FILE_SYSTEMS = ("ext4", "btrfs")

# What happens before overlayfs is asked for: the same on a kernel without verity=require.
EARLY_STEPS = ("usage", "source", "store", "open", "measure")


@dataclass(frozen=True)
class Mounts:
    """The root is mounted and all files are right."""

    stderr: str | None = None


@dataclass(frozen=True)
class Refused:
    """One line on stderr, nothing mounted. The texts are regular expressions; {D} and the other
    names of stores.py stand for digests."""

    step: str
    path: str
    found: str
    expected: str = ""
    code: int = 32
    or_else: "Refused | None" = None
    """As good: kernels differ in which step finds it."""


@dataclass(frozen=True)
class Errors:
    """Mounted, and reading these files fails with that errno (a regular expression); all others
    are right."""

    files: dict[str, str]


@dataclass(frozen=True)
class Passes:
    """A row that checks itself: `command` exits with 0."""


Outcome = Mounts | Refused | Errors | Passes


@dataclass(frozen=True)
class Row:
    """One case. Its shell code is run by guest.sh, which says what there is."""

    number: int
    """In the list of cases (README of this directory)."""
    variant: str
    title: str
    outcome: Outcome
    prepare: str = ""
    """Before the mount: changes $S, the row's own copy of the store, or $STORE and $DIGEST."""
    after: str = ""
    """After a mount that went well, before the files are read."""
    clean: str = ""
    """At the end."""
    command: str = ""
    """Instead of the mounter's own: the row is about cfs-init alone."""
    program: str = "cfs-mount"
    """Whose name is in front of the message."""
    kernels: tuple[str, ...] | None = None
    """None: MOUNTS, and REFUSES where the outcome is decided early enough."""
    limit: int = 20

    @property
    def name(self) -> str:
        """ "11-fifo"."""
        return f"{self.number}-{self.variant}"

    def runs_on(self, role: str) -> bool:
        """Whether the kernel is one for this row."""
        if self.kernels is not None:
            return role in self.kernels
        early = isinstance(self.outcome, Refused) and self.outcome.step in EARLY_STEPS
        return role in MOUNTS or (role == REFUSES and early)


def hostile_image(number: int, variant: str, title: str, outcome: Outcome, file: str = "") -> Row:
    """/disk/hostile/`file` (else: of the variant's name) is the image, under its own digest."""
    return Row(number, variant, title, outcome, prepare=f"adopt /disk/hostile/{file or variant}")


@dataclass(frozen=True)
class Elsewhere:
    """A row that other tests prove, or that cannot be run yet (`tests` is empty: why says it)."""

    number: int
    title: str
    tests: tuple[str, ...] = ()
    why: str = ""
