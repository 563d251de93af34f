# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The errors that a person sees, and their exit codes (those of mount(8))."""

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

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
    """A step that failed, with its path, what was found there and what was expected.

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


# The machine has too little of something. The object that the step worked on is not to blame.
LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def failure(step: str, path: str, error: OSError, expected: str = "", needs: str = "") -> CfsError:
    """Returns the error to raise for an OSError in a step: SystemFailure where the machine lacks
    memory, descriptors or rights, else Refused.

    `needs`: the system call that the step uses, and the kernel version that has it.
    """
    found = os_error(error)
    if error.errno in LACKS:
        return SystemFailure(step, path, found)
    if error.errno == errno.ENOSYS and needs:
        return Refused(step, path, f"this kernel, or a seccomp filter, has no {needs}: {found}")
    if error.errno == errno.EPERM and needs:
        return SystemFailure(step, path, f"{needs}: {found}")
    return Refused(step, path, found, expected)


class Step:
    """`with Step(...)`: an OSError that nobody foresaw inside is the failure of this step.

    Arguments as of failure(). Memory that ran out is such a failure too.
    """

    __slots__ = ("expected", "needs", "path", "step")

    def __init__(self, step: str, path: str, expected: str = "", needs: str = "") -> None:
        self.step = step
        self.path = path
        self.expected = expected
        self.needs = needs

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: "TracebackType | None",
    ) -> None:
        if isinstance(error, OSError):
            raise failure(self.step, self.path, error, self.expected, self.needs) from None
        if isinstance(error, MemoryError):
            raise SystemFailure(self.step, self.path, "out of memory") from None


def printable(text: str) -> str:
    """The text as one line of ASCII, with control characters escaped: safe on a console."""
    return ascii(text)[1:-1].replace("\\'", "'").replace('\\"', '"')


def os_error(error: OSError) -> str:
    """The kernel's words and the error's name, as in `No such file or directory (ENOENT)`."""
    name = errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
    return f"{error.strerror} ({name})"
