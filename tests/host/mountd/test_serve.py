# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A connection, with a caller of any kind at its other end."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from pyinit.host.mountd import image, serve
from pyinit.initrd.root.digest import Digest

A = Digest(1, b"\xa1" * 32)
INFO = b'{"method":"org.varlink.service.GetInfo"}\0'
CALL = b'{"method":"io.cfs.Mount.Mount","parameters":{"name":"editor"}}\0'


class Served:
    """Started by systemd, as it were: the connection is the standard input."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(60)
        self.given: list[int] = []
        patch.setattr(os, "dup", lambda fd: self.theirs.detach() if fd == 0 else fd)
        patch.setattr(image, "give", self._give)
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _give(self, _name: str) -> tuple[Digest, int]:
        self.given.append(os.open("/proc", os.O_PATH))
        return A, self.given[-1]

    def _run(self) -> None:
        assert serve.main() == 0
        self.ended.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self._thread.join(60)
        assert self.ended.is_set()
        for fd in self.given:  # nothing of it stays here
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)

    def closes(self) -> bool:
        """What it does where no answer can be given."""
        try:
            return self.ours.recv(1) == b""
        except ConnectionResetError:  # it has not read all of it
            return True


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with Served(monkeypatch) as made:
        yield made


def answers(data: bytes) -> list[dict[str, object]]:
    return [json.loads(message) for message in data.split(b"\0")[:-1]]


def test_a_mount_comes_with_its_answer(served: Served) -> None:
    served.ours.sendall(CALL)
    data, [fd], flags, _ = socket.recv_fds(served.ours, 8192, 4)
    assert answers(data) == [{"parameters": {"digest": str(A), "fileDescriptor": 0}}]
    assert os.readlink(f"/proc/self/fd/{fd}") == "/proc"
    assert not flags & socket.MSG_CTRUNC
    os.close(fd)


def test_several_calls_in_pieces(served: Served) -> None:
    for byte in INFO * 2:
        served.ours.sendall(bytes([byte]))
    served.ours.sendall(INFO * 2)
    data = b""
    while data.count(b"\0") < 4:
        data += served.ours.recv(8192)
    assert len({str(answer) for answer in answers(data)}) == 1


def test_so_many_calls_and_no_more(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(serve.CALLS):
        served.ours.sendall(INFO)
        assert served.ours.recv(8192)
    assert served.closes()
    assert capfd.readouterr().err == ""  # at once, and not when the time is over


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0", "no JSON: "),
        (b"x\0", "no JSON: "),
        (b"{}\0", "no method"),
        (b"x" * 4097, "more than 4096 bytes"),
        (b"x" * 10000, "more than 4096 bytes"),
        (INFO[:-1] + b"x\0", "no JSON: "),
    ],
)
def test_what_has_no_answer_ends_it(
    data: bytes, said: str, served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    served.ours.sendall(data)
    assert served.closes()
    served.ended.wait(60)
    line = capfd.readouterr().err
    assert line.startswith(f"cfs-mountd: user {os.getuid()}, process {os.getpid()}: {said}")
    assert line.count("\n") == 1


def test_who_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A byte now and then does not help."""
    monkeypatch.setattr(serve, "SECONDS", 0.3)
    with Served(monkeypatch) as served:
        begun = time.monotonic()
        while not served.ended.wait(0.05):
            try:
                served.ours.send(b"x")
            except BrokenPipeError:
                break
        assert served.ended.wait(60)
        assert time.monotonic() - begun < 30
    assert "timed out" in capfd.readouterr().err


def test_the_time_is_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "SECONDS", 0.5)
    answered = 0
    with Served(monkeypatch) as served:
        try:
            while not served.ended.wait(0.2):
                served.ours.sendall(INFO)
                answered += bool(served.ours.recv(8192))
        except OSError:
            pass
        assert served.ended.wait(60)
    assert answered < 4


def test_nothing_is_sent_to_who_has_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be gone by then, and that is no failure."""

    class Connection(socket.socket):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def sendmsg(self, buffers: Any, *_: Any) -> int:
            self.calls.append("sendmsg")
            return sum(map(len, buffers))

        def sendall(self, *_: Any) -> None:
            self.calls.append("sendall")

    connection = Connection()
    serve._send(connection, INFO, [])
    assert connection.calls == ["sendmsg"]


def test_who_does_not_read_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "SECONDS", 0.3)
    made = Served(monkeypatch)
    made.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with made as served:
        served.ours.sendall(INFO * serve.CALLS)
        assert served.ended.wait(60)
    assert "timed out" in capfd.readouterr().err


def test_who_leaves_is_no_failure(served: Served) -> None:
    served.ours.sendall(CALL)
    served.ours.close()
    assert served.ended.wait(60)


def test_descriptors_of_the_caller_are_not_received(served: Served) -> None:
    reader, writer = os.pipe()
    socket.send_fds(served.ours, [INFO], [writer])
    os.close(writer)
    assert served.ours.recv(8192)
    # Nobody holds the other end: it was never open there.
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize("what", ["null", "file", "pipe", "datagram"])
def test_without_a_connection_it_says_who_starts_it(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reader, writer = os.pipe()
    pair = socket.socketpair(type=socket.SOCK_DGRAM)
    makers: dict[str, Callable[[], int]] = {
        "null": lambda: os.open("/dev/null", os.O_RDONLY),
        "file": lambda: os.open(tmp_path / "file", os.O_RDONLY),
        "pipe": lambda: os.dup(reader),
        "datagram": lambda: os.dup(pair[0].fileno()),
    }
    stdin = makers[what]()
    done = subprocess.run(
        [sys.executable, "-m", "pyinit.host.mountd"], stdin=stdin,
        capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    for fd in (stdin, reader, writer):
        os.close(fd)
    for end in pair:
        end.close()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "cfs-mountd: the standard input is no connection: systemd starts this, by "
        "cfs-mountd.socket\n"
    )
