# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in systemd's NvPCR, with a program in systemd's place. The real one, of systemd 262:
tests/vm/test_nvpcr.py."""

import _cfs
import errno
import json
import posix
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pyinit.initrd.handover import nvpcr, pcr
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.config import Config

DIGEST = Digest(_cfs.SHA256, bytes(range(32)))
STRING = f"composefs:/:sha256:{DIGEST.hex}:carried"
DONE = b'{"parameters":{}}\0'


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvpcr, "_unanswered", [])


@contextmanager
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], None]
) -> Iterator[list[bytes]]:
    """What was asked. One connection after the other."""
    path = tmp_path / "socket"
    monkeypatch.setattr(nvpcr, "SOCKET", str(path))
    asked: list[bytes] = []

    def run() -> None:
        while True:
            try:
                theirs = listening.accept()[0]
            except OSError:
                return
            with theirs, suppress(BrokenPipeError):
                asked.append(theirs.recv(4096))
                serve(theirs)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    def serve(theirs: socket.socket) -> None:
        for part in parts:
            theirs.sendall(part)
            time.sleep(0.02)

    return serve


def never(theirs: socket.socket) -> None:
    theirs.recv(1)


def settings(**changes: object) -> Config:
    made = Config()
    made.measure_nvpcr = "composefs"
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def test_nobody_is_asked_where_none_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path, monkeypatch, says(DONE)) as asked:
        assert pcr.measure(Config(), DIGEST, "carried") is None
    assert asked == []


@pytest.mark.parametrize("parts", [(DONE,), (DONE[:5], DONE[5:-1], b"\0")], ids=["whole", "parts"])
def test_it_is_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    parts: tuple[bytes, ...],
) -> None:  # fmt: skip
    with server(tmp_path, monkeypatch, says(*parts)) as asked:
        found = pcr.measure(settings(), DIGEST, "carried")
        assert pcr.measure(settings(), DIGEST, "carried", "/run/extensions/a")
    assert found == {"nvpcr": {"name": "composefs", "string": STRING}}
    assert capfd.readouterr().err == ""
    assert all(each.endswith(b"\0") and each.count(b"\0") == 1 for each in asked)
    first, second = (json.loads(each[:-1]) for each in asked)
    assert first == {
        "method": "io.systemd.PCRExtend.Extend",
        "parameters": {"nvpcr": "composefs", "text": STRING, "eventType": "filesystem"},
    }
    assert second["parameters"]["text"] == STRING.replace(":/:", ":/run/extensions/a:")


FAULTS: list[tuple[Callable[[socket.socket], None], str]] = [
    (says(b'{"error":"io.systemd.PCRExtend.NoSuchNvPCR","parameters":{}}\0'),
     "systemd answers io.systemd.PCRExtend.NoSuchNvPCR"),
    (says(b"no\0"), "systemd answers what is not known here: b'no'"),
    (says(DONE + DONE), "systemd answers what is not known here"),
    (says(DONE[:-1]), "it ends without an answer (ECONNRESET)"),
    (says(), "it ends without an answer (ECONNRESET)"),
    (says(b"a" * 5000), "an answer of more than 4096 bytes (EMSGSIZE)"),
    (never, "no answer in "),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_fault_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    """And nothing more, whatever is required of the PCR."""
    serve, said = FAULTS[number]
    if serve is never:  # the others may be slow, on a busy machine
        monkeypatch.setattr(nvpcr, "_ATTEMPTS", 20)
    with server(tmp_path, monkeypatch, serve):
        found = pcr.measure(settings(measure_required=True), DIGEST, "carried")
    assert isinstance(found, dict)
    inner = found["nvpcr"]
    assert isinstance(inner, dict)
    assert set(inner) == {"name", "fault"}
    assert said in str(inner["fault"])
    # of what comes to no answer, where
    assert str(inner["fault"]).startswith((f"{tmp_path}/socket: ", "systemd answers "))
    warning = capfd.readouterr().err
    assert warning == (
        f"warning: the root is not measured into the NvPCR composefs: {inner['fault']}\n"
    )


NO_ANSWER = [each for each in FAULTS if not each[1].startswith("systemd ")]


@pytest.mark.parametrize("number", range(len(NO_ANSWER)))
def test_who_gives_no_answer_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    """One wait and one warning, of many extensions. The record has each."""
    serve, said = NO_ANSWER[number]
    if serve is never:
        monkeypatch.setattr(nvpcr, "_ATTEMPTS", 20)
    with server(tmp_path, monkeypatch, serve) as asked:
        pcr.measure(settings(), DIGEST, "carried")
        warning = capfd.readouterr().err
        for name in "ab":
            found = pcr.measure(settings(), DIGEST, "carried", f"/run/extensions/{name}")
            assert found == {"nvpcr": {"name": "composefs", "fault": nvpcr.NOT_ASKED}}
    assert len(asked) <= 1  # whom `never` answers may be gone before he was heard
    assert warning.count("\n") == 1
    assert said in warning
    assert warning.endswith("; systemd is not asked again\n")
    assert capfd.readouterr().err == ""


def test_who_answers_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path, monkeypatch, FAULTS[0][0]) as asked:
        for place in ("/", "/run/extensions/a"):
            pcr.measure(settings(), DIGEST, "carried", place)
            assert FAULTS[0][1] in capfd.readouterr().err
    assert len(asked) == 2


def test_a_read_that_fails_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(_fd: int, _size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(nvpcr, "_ATTEMPTS", 1)
    with server(tmp_path, monkeypatch, never):
        monkeypatch.setattr(posix, "read", read)
        pcr.measure(settings(), DIGEST, "carried")
    assert capfd.readouterr().err.endswith(
        f"{tmp_path}/socket: Input/output error (EIO); systemd is not asked again\n"
    )


def test_the_limit_is_of_seconds() -> None:
    """As the documents say it."""
    assert round(nvpcr._ATTEMPTS * nvpcr._PAUSE_SECONDS) == 30


def test_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "none"
    monkeypatch.setattr(nvpcr, "SOCKET", str(place))
    for words in ("No such file or directory (ENOENT)", "Connection refused (ECONNREFUSED)"):
        pcr.measure(settings(), DIGEST, "carried")
        assert capfd.readouterr().err == (
            "warning: the root is not measured into the NvPCR composefs: "
            f"no systemd-pcrextend.socket: {place}: {words}; systemd is not asked again\n"
        )
        assert pcr.measure(settings(), DIGEST, "carried", "/run/extensions/a")
        assert capfd.readouterr().err == ""
        nvpcr._unanswered.clear()
        place.touch()


def test_the_pcr_comes_first_and_refuses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pcr, "DEVICE", str(tmp_path / "tpmrm0"))
    with server(tmp_path, monkeypatch, says(DONE)) as asked:
        found = pcr.measure(settings(measure_pcr="8"), DIGEST, "carried")
        assert isinstance(found, dict)
        assert (found["pcr"], found["banks"]) == (8, [])
        assert found["nvpcr"] == {"name": "composefs", "string": STRING}
        with pytest.raises(Refused, match="measure: PCR 8: "):
            pcr.measure(settings(measure_pcr="8", measure_required=True), DIGEST, "carried")
    assert len(asked) == 1
    assert capfd.readouterr().err.count("\n") == 1
