# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in an NvPCR of systemd's (259 and later): in a register of its own, which lies in the
TPM's memory beside the PCRs.

systemd makes it, extends it and writes the log; it is asked for it by its Varlink service. The one
who answers there is root, as /run is root's.
"""

import _cfs
import errno
import posix
import time

from pyinit.initrd.handover import status
from pyinit.initrd.machine import nvpcr_message
from pyinit.initrd.report.errors import os_error

SOCKET = "/run/systemd/io.systemd.PCRExtend"
# systemd starts a program for each question, and a TPM may take a second for each of its steps.
_ATTEMPTS, _PAUSE_SECONDS = 3000, 0.01
NOT_ASKED = "not asked: systemd gave no answer before"
# The text that had no answer. systemd is not asked again then: each question would wait as long,
# and the one that waits may still extend it, out of the boot's order.
_unanswered: list[str] = []


def extend(name: str, text: str) -> str:
    """Extends it by the hash of the text; "", or why it was not, as far as systemd says."""
    if _unanswered:
        return NOT_ASKED
    question: dict[str, status.Value] = {
        "method": "io.systemd.PCRExtend.Extend",
        "parameters": {"nvpcr": name, "text": text, "eventType": "filesystem"},
    }
    try:
        fd = _cfs.ask(SOCKET, status.to_json(question).encode("ascii") + b"\0")
        try:
            answer = _answer(fd)
        finally:
            posix.close(fd)
    except OSError as error:
        _unanswered.append(text)
        nobody = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
        why = "no systemd-pcrextend.socket: " if nobody else ""
        return f"{why}{SOCKET}: {os_error(error)}; systemd is not asked again"
    return nvpcr_message.fault(answer)


def _answer(fd: int) -> bytes:
    """Up to its NUL."""
    answer = b""
    for _ in range(_ATTEMPTS):
        try:
            part = posix.read(fd, nvpcr_message.MAX + 1)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            time.sleep(_PAUSE_SECONDS)
            continue
        answer += part
        if answer.endswith(b"\0"):
            return answer[:-1]
        if not part:
            raise OSError(errno.ECONNRESET, "it ends without an answer")
        if len(answer) > nvpcr_message.MAX:
            raise OSError(errno.EMSGSIZE, f"an answer of more than {nvpcr_message.MAX} bytes")
    seconds = int(_ATTEMPTS * _PAUSE_SECONDS)
    raise OSError(errno.ETIMEDOUT, f"no answer in {seconds} seconds")
