# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The last words of a program that failed inside: the traceback, where somebody may read it.

The frozen interpreter has no sys.stderr and no traceback module. Every frozen file keeps its line
table, so that file and line can be named; the source itself is not there to be shown.
"""

import posix

from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_INTERNAL, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_KMSG = "/dev/kmsg"
_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOCTTY
# The kernel cuts a record of its log at 1024 bytes less its own prefix (PRINTKRB_RECORD_MAX), and
# ours has one too.
_RECORD_MAX = 940
_CHAIN_MAX = 16
_FRAMES_MAX = 64


def report(error: BaseException, boot: bool = False) -> int:
    """Writes the traceback to stderr and, in a `boot`, to the kernel's log. Returns the exit code.

    PID 1 is in a boot; a child of it says so.
    """
    lines = format_exception(error)
    in_boot = boot or posix.getpid() == 1
    if not (in_boot and log_lines(lines) and output.log_is_seen()):
        output.error("".join(f"{line}\n" for line in lines))
    return EXIT_INTERNAL


def log_lines(lines: list[str]) -> bool:
    """Each line as records of level `crit`, as many as it needs. False: there is no such log."""
    output.settle()
    for line in lines:
        data = line.encode("ascii", "replace")
        for at in range(0, len(data) or 1, _RECORD_MAX):
            if not _log(b"<2>cfs-init: " + data[at : at + _RECORD_MAX] + b"\n"):
                return False
    return True


def _log(record: bytes) -> bool:
    """Opened each time: of each who has it open the kernel takes ten records, and drops more."""
    try:
        fd = posix.open(_KMSG, _FLAGS)
        try:
            posix.write(fd, record)
        finally:
            posix.close(fd)
    except OSError:
        return False
    return True


def format_exception(error: BaseException) -> list[str]:
    """The lines of a Python traceback, causes first, without source text; safe on a console."""
    chain: list[tuple[BaseException, str]] = []
    current: BaseException | None = error
    link = ""
    while current is not None and len(chain) < _CHAIN_MAX:
        chain.append((current, link))
        if current.__cause__ is not None:
            link = "The above exception was the direct cause of the following exception:"
            current = current.__cause__
        elif not current.__suppress_context__:
            link = "During handling of the above exception, another exception occurred:"
            current = current.__context__
        else:
            current = None
    lines: list[str] = []
    for shown, link in reversed(chain):
        lines += _format_one(shown)
        if link:
            lines += ["", link, ""]
    return lines


def _format_one(error: BaseException) -> list[str]:
    lines = []
    if error.__traceback__ is not None:
        lines.append("Traceback (most recent call last):")
        lines += _format_frames(error.__traceback__)
    name = type(error).__name__
    try:
        text = printable(str(error))
    except Exception as nested:
        text = f"<str() raised {type(nested).__name__}>"
    lines.append(f"{name}: {text}" if text else name)
    return lines


def _format_frames(start: "TracebackType") -> list[str]:
    lines = []
    entry: TracebackType | None = start
    while entry is not None:
        code = entry.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {entry.tb_lineno}, in {code.co_name}')
        entry = entry.tb_next
    if len(lines) > _FRAMES_MAX:
        half = _FRAMES_MAX // 2
        left_out = len(lines) - 2 * half
        lines[half:-half] = [f"  [{left_out} frames left out]"]
    return lines
