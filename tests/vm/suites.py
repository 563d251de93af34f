# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The suites of Debian by what they are for the tests: here alone they are named.

Suites move. What they have today is found when it is fetched, and printed then; that of the stable
one hardly changes, and tools, roots and the machine on which users build are taken from it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .apt import PackageError, SuiteGoneError

OLDEST = "bookworm"
OLDEST_BACKPORTS = "bookworm-backports"
STABLE = "trixie"
BACKPORTS = "trixie-backports"
LATER = ("forky", "sid")
"""What is in no earlier one, in the order in which it is looked for."""

# What a suite has of a package: its version, None if there is none.
Offered = Callable[[str], str | None]


@dataclass(frozen=True)
class Choice:
    """A suite, and the version of the package that was looked for."""

    suite: str
    version: str


def first_with(
    package: str, suites: Iterable[str], offered: Offered, unfit: Callable[[str], str] | None = None
) -> Choice:
    """The first suite that has `package`; `unfit` says what is wrong with a version, or "".

    A suite that is no more is passed over; whatever else is wrong with one is an error, as it
    would be for its packages. PackageError: one line about all of them.
    """
    problems = []
    for suite in suites:
        try:
            version = offered(suite)
        except SuiteGoneError:
            problems.append(f"{suite} is not on the mirror")
            continue
        if version is None:
            problems.append(f"{suite} has no package {package}")
        elif unfit and (problem := unfit(version)):
            problems.append(f"{suite} has {version}, {problem}")
        else:
            return Choice(suite, version)
    raise PackageError(", ".join(problems))
