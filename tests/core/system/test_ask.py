# SPDX-License-Identifier: Apache-2.0 OR MIT
"""ask.c: a question is sent whole, and nothing waits."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.core import Core

pytestmark = pytest.mark.timeout(60, method="thread")

QUESTION = b'{"method":"a"}\0'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen(1)
        yield listening


def ask(core: Core, path: Path | bytes, question: bytes = QUESTION) -> int:
    block = core.buffer(question)
    result: int = core.lib.cfs_ask(os.fsencode(path), block, len(question))
    return result


def test_it_comes_whole_and_the_answer_is_not_waited_for(
    core: Core, server: socket.socket, tmp_path: Path
) -> None:
    fd = ask(core, tmp_path / "socket")
    assert fd >= 3
    assert not os.get_inheritable(fd)
    with pytest.raises(BlockingIOError):
        os.read(fd, 1)
    with server.accept()[0] as theirs:
        assert theirs.recv(100) == QUESTION
        theirs.sendall(b"done\0")
    assert os.read(fd, 100) == b"done\0"
    assert os.read(fd, 100) == b""
    os.close(fd)


def test_nobody_there(core: Core, server: socket.socket, tmp_path: Path) -> None:
    assert ask(core, tmp_path / "none") == -errno.ENOENT
    (tmp_path / "file").touch()
    assert ask(core, tmp_path / "file") == -errno.ECONNREFUSED
    server.close()
    assert ask(core, tmp_path / "socket") == -errno.ECONNREFUSED


def test_a_server_that_takes_nobody_is_not_waited_for(
    core: Core, server: socket.socket, tmp_path: Path
) -> None:
    asked = [ask(core, tmp_path / "socket") for _ in range(4)]
    assert asked[-1] == -errno.EAGAIN
    for fd in asked:
        if fd >= 0:
            os.close(fd)


def test_paths_that_no_socket_has(core: Core, tmp_path: Path) -> None:
    """The last byte is for the NUL."""
    assert ask(core, b"") == -errno.ENAMETOOLONG
    assert ask(core, b"/" * 108) == -errno.ENAMETOOLONG
    assert ask(core, b"/" * 107) == -errno.ECONNREFUSED  # the directory itself


def test_a_question_that_has_no_room(core: Core, server: socket.socket, tmp_path: Path) -> None:
    """The room of a new socket is the machine's to set, and a bit more than that goes in."""
    room = server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert ask(core, tmp_path / "socket", bytes(2 * room)) == -errno.EMSGSIZE


@pytest.mark.parametrize("call", ["socket", "connect", "send"])
def test_what_fails(core: Core, server: socket.socket, tmp_path: Path, call: str) -> None:
    with core.failing(call, errno.EDOM):
        assert ask(core, tmp_path / "socket") == -errno.EDOM


def test_no_signal_where_the_other_end_is_gone(
    core: Core, server: socket.socket, tmp_path: Path
) -> None:
    """As where a server ends between the two calls. Python ignores SIGPIPE, and the initrd's
    interpreter does not."""
    core.ffi.cdef("int sys_send(int, const void *, size_t);")
    ours, theirs = socket.socketpair()
    theirs.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert core.lib.sys_send(ours.fileno(), b"a", 1) == -errno.EPIPE
    finally:
        signal.signal(signal.SIGPIPE, before)
        ours.close()
