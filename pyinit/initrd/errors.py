# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The errors that a person sees, and their exit codes (those of mount(8))."""

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_SYSTEM = 2
EXIT_INTERNAL = 4
EXIT_REFUSED = 32

# In the order in which they happen.
STEPS = (
    "usage",
    "config",
    "source",
    "store",
    "open",
    "measure",
    "erofs",
    "overlay",
    "check",
    "state",
    "attach",
    "switch-root",
)


class CfsError(Exception):
    """A step that failed: which, on what path, what was found and what was expected.

    `path` is whatever names the object to the reader (a path, a device, an option); `expected` is
    empty where "found" says it all. The text is one line: control characters are escaped, since
    names come from disks that an attacker may have written.
    """

    verdict = "refused"
    code = EXIT_REFUSED

    def __init__(self, step: str, path: str, found: str, expected: str = "") -> None:
        if step not in STEPS:
            raise ValueError(step)
        super().__init__(step, path, found, expected)
        self.step = step
        self.path = path
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        text = f"{self.verdict}: {self.step}: {self.path}: {self.found}"
        if self.expected:
            text += f", expected {self.expected}"
        return printable(text)


class Refused(CfsError):
    """A check that failed: nothing is mounted (32)."""


class UsageError(CfsError):
    """Wrong use: a malformed option, digest or configuration; no disk was touched (1)."""

    verdict = "error"
    code = EXIT_USAGE


class SystemFailure(CfsError):
    """The system could not do what every system can: memory, descriptors, privileges (2)."""

    verdict = "error"
    code = EXIT_SYSTEM


def printable(text: str) -> str:
    """One line of ASCII that is safe on a serial console."""
    return ascii(text)[1:-1].replace("\\'", "'").replace('\\"', '"')


def os_error(error: OSError) -> str:
    """`No such file or directory (ENOENT)`: the kernel's words, and the name to search for."""
    import errno

    name = errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
    return f"{error.strerror} ({name})"
