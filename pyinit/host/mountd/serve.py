# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One connection, which systemd has accepted: it is the standard input.

Who calls gets so many answers in so much time. A call that has none ends the connection.
Descriptors that come with one are the kernel's to close: they are never received.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from array import array

from pyinit.host.mountd import service, varlink
from pyinit.host.mountd.varlink import Malformed
from pyinit.initrd.report.errors import EXIT_OK, EXIT_USAGE, printable

NAME = "cfs-mountd"
CALLS = 16
SECONDS = 5.0
"""For all that the other side has to do; what is done for it has its own limit."""
_CREDENTIALS = struct.Struct("3i")


def main() -> int:
    """The exit code. A caller that does wrong is no failure of the service."""
    try:
        connection = socket.socket(fileno=os.dup(0))
    except OSError:
        connection = None
    if connection is None or (connection.family, connection.type) != (
        socket.AF_UNIX, socket.SOCK_STREAM,
    ):  # fmt: skip
        _tell("the standard input is no connection: systemd starts this, by cfs-mountd.socket")
        return EXIT_USAGE
    with connection:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, user, _group = _CREDENTIALS.unpack(data)
        who = f"user {user & 0xFFFFFFFF}, process {process}"
        try:
            serve(connection, who)
        except Malformed as error:
            _tell(f"{who}: {error}")
        except OSError as error:  # they are gone, or they wait
            _tell(f"{who}: {error}")
    return EXIT_OK


def serve(connection: socket.socket, who: str) -> None:
    """Answers until they end it. Malformed; OSError, of which TimeoutError is one."""
    left = SECONDS
    rest = b""
    for _ in range(CALLS):
        begun = time.monotonic()
        while varlink.END not in rest:
            if len(rest) > varlink.MAX:
                raise Malformed(f"more than {varlink.MAX} bytes")
            connection.settimeout(max(left - (time.monotonic() - begun), 0.001))
            # recv, not recvmsg: the kernel has no room for descriptors then, and drops them.
            received = connection.recv(varlink.MAX + 1)
            if not received:
                return
            rest += received
        left -= time.monotonic() - begun
        data, _, rest = rest.partition(varlink.END)
        message, descriptors = service.answer(
            varlink.parse(data), lambda line: _tell(f"{who}: {line}")
        )
        begun = time.monotonic()
        try:
            connection.settimeout(max(left, 0.001))
            _send(connection, message, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
        left -= time.monotonic() - begun


def _send(connection: socket.socket, message: bytes, descriptors: list[int]) -> None:
    """The descriptors go with the first byte."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
    sent = connection.sendmsg([message], ancillary if descriptors else [])
    if sent < len(message):  # sending nothing fails where the other side has its answer and is gone
        connection.sendall(message[sent:])


def _tell(text: str) -> None:
    """A line in the journal."""
    print(f"{NAME}: {printable(text)}", file=sys.stderr, flush=True)
