# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in a PCR: with a TPM that is a file, answering what a test has it answer. A real one:
tests/vm/test_pcr.py."""

import _cfs
import errno
import fcntl
import json
import os
import posix
import stat
from pathlib import Path

import pytest

from pyinit.initrd.handover import pcr
from pyinit.initrd.machine import tpm_message
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.config import Config
from tests.initrd.machine.test_tpm_message import ALL, answer, capability

DIGEST = Digest(_cfs.SHA256, bytes(range(32)))
STRING = f"composefs:/:sha256:{DIGEST.hex}:carried"
DONE = bytes.fromhex("80020000001300000000000000000000010000")
TWO = capability((4, ALL), (0xB, ALL))


class Tpm:
    """Its answers, in turn; an OSError is what the driver says."""

    def __init__(self, *answers: "bytes | OSError") -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.asked.append(data)
        if isinstance(self.answers[0], OSError):
            raise self.answers.pop(0)  # type: ignore[misc]

    def read(self) -> bytes:
        found = self.answers.pop(0)
        if isinstance(found, OSError):
            raise found
        return found


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "log/systemd/tpm2-measure.log"
    monkeypatch.setattr(pcr, "LOG", str(place))
    monkeypatch.setattr(pcr, "_ATTEMPTS", 2)
    monkeypatch.setattr(pcr, "_PAUSE_SECONDS", 0)
    return place


def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tpm: Tpm) -> None:
    device = tmp_path / "tpmrm0"
    device.touch()
    monkeypatch.setattr(pcr, "DEVICE", str(device))

    def ask(_fd: int, command: bytes) -> bytes:
        tpm.write(command)
        return tpm.read()

    monkeypatch.setattr(pcr, "_ask", ask)


def settings(number: str = "15", required: bool = False) -> Config:
    made = Config()
    made.measure_pcr, made.measure_required = number, required
    return made


def test_nothing_is_asked_where_no_pcr_is_configured(
    monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    monkeypatch.setattr(pcr, "DEVICE", "/nonexistent")
    assert pcr.measure(Config(), DIGEST, "carried") is None
    assert not log.exists()


def test_all_banks_at_once_and_a_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path
) -> None:
    for count in (1, 2):  # a second root: a second record
        tpm = Tpm(TWO, DONE)
        use(monkeypatch, tmp_path, tpm)
        found = pcr.measure(settings(), DIGEST, "carried")
        assert found == {"pcr": 15, "banks": ["sha1", "sha256"], "string": STRING}
        values = tpm_message.digests(["sha1", "sha256"], STRING.encode())
        assert tpm.asked[1] == tpm_message.extend_command(15, values)
        records = log.read_bytes().split(b"\x1e")
        assert records[0] == b""
        assert len(records) == count + 1
        assert records[-1].endswith(b"}\n")
        record = json.loads(records[-1])
        assert record["pcr"] == 15
        assert record["digests"] == [
            {"hashAlg": name, "digest": value.hex()} for name, value in values.items()
        ]
        assert record["content_type"] == "systemd"
        content = record["content"]
        assert (content["string"], content["eventType"]) == (STRING, "filesystem")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
        assert content["bootId"] == boot_id.strip().replace("-", "")
        assert 0 < content["timestamp"] <= float(Path("/proc/uptime").read_text().split()[0]) * 1e6
    # whole: without the sticky bit
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


FAULTS = [
    (Tpm(capability((4, ALL))), "a bank of SHA-1 alone"),
    (Tpm(TWO, answer(0x8001, b"", 0x921)), "TPM2_PCR_Extend: it answers TPM_RC_LOCKOUT"),
    (Tpm(b"\x80\x01"), "TPM2_GetCapability: an answer of 2 bytes that is cut or too long"),
    (Tpm(TWO, DONE[:-1]), "TPM2_PCR_Extend: an answer of 18 bytes"),
    (Tpm(TWO, TWO), "TPM2_PCR_Extend: a malformed answer"),
]


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_what_cannot_be_measured_is_told_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path,
    capfd: pytest.CaptureFixture[str], number: int,
) -> None:  # fmt: skip
    tpm, said = FAULTS[number]
    answers = list(tpm.answers)
    use(monkeypatch, tmp_path, Tpm(*answers))
    found = pcr.measure(settings("8"), DIGEST, "carried")
    assert isinstance(found, dict)
    assert (found["pcr"], found["banks"]) == (8, [])
    assert said in str(found["fault"])
    warning = capfd.readouterr().err
    assert warning.startswith("warning: the root is not measured into PCR 8: ")
    assert said in warning
    assert warning.count("\n") == 1
    log.unlink(missing_ok=True)
    use(monkeypatch, tmp_path, Tpm(*answers))
    with pytest.raises(Refused, match="measure: PCR 8: ") as caught:
        pcr.measure(settings("8", required=True), DIGEST, "carried")
    assert said in str(caught.value)


def test_an_image_is_measured_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = "/run/extensions/a"
    use(monkeypatch, tmp_path, Tpm(TWO, DONE))
    found = pcr.measure(settings(), DIGEST, "carried", place)
    assert isinstance(found, dict)
    assert found["string"] == f"composefs:{place}:sha256:{DIGEST.hex}:carried"
    assert found["string"] in log.read_text()
    use(monkeypatch, tmp_path, Tpm(b"\x80\x01"))
    pcr.measure(settings(), DIGEST, "carried", place)
    assert capfd.readouterr().err.startswith(f"warning: {place} is not measured into PCR 15: ")
    use(monkeypatch, tmp_path, Tpm(b"\x80\x01"))
    with pytest.raises(Refused, match=rf"expected {place} measured \("):
        pcr.measure(settings(required=True), DIGEST, "carried", place)


@pytest.mark.parametrize(
    ("linked", "said"),
    [
        (False, r"PCR 15: no TPM 2.0, or no driver for it: /\S+/tpmrm0: .*\(ENOENT\)"),
        (True, r"PCR 15: /\S+/tpmrm0: .*\(ELOOP\)"),
    ],
)
def test_no_tpm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, linked: bool, said: str
) -> None:
    device = tmp_path / "tpmrm0"
    if linked:
        device.symlink_to("/dev/null")
    monkeypatch.setattr(pcr, "DEVICE", str(device))
    with pytest.raises(Refused, match=said):
        pcr.measure(settings(required=True), DIGEST, "carried")
    assert not log.exists()


def test_a_driver_that_gives_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path) -> None:
    """ETIME, where the TPM never answers: the same as another failure."""
    device = tmp_path / "tpmrm0"
    device.touch()
    monkeypatch.setattr(pcr, "DEVICE", str(device))

    def fail(*_: object) -> int:
        raise OSError(errno.ETIME, "Timer expired")

    monkeypatch.setattr(posix, "write", fail)
    with pytest.raises(Refused, match=r"tpmrm0: Timer expired \(ETIME\)"):
        pcr.measure(settings(required=True), DIGEST, "carried")


def test_a_file_in_place_of_the_tpm_answers_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path
) -> None:
    device = tmp_path / "tpmrm0"
    device.touch()
    monkeypatch.setattr(pcr, "DEVICE", str(device))
    with pytest.raises(Refused, match="an answer of 0 bytes that is cut or too long"):
        pcr.measure(settings(required=True), DIGEST, "carried")


def test_a_log_that_lacks_something_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The PCR is extended all the same: the log proves nothing, it only explains."""
    log.parent.mkdir(parents=True)
    log.write_bytes(b"\x1e{")
    log.chmod(0o1600)
    use(monkeypatch, tmp_path, Tpm(TWO, DONE))
    found = pcr.measure(settings(required=True), DIGEST, "carried")
    assert isinstance(found, dict)
    assert found["banks"] == ["sha1", "sha256"]
    assert log.read_bytes() == b"\x1e{"
    assert stat.S_IMODE(log.stat().st_mode) == 0o1600
    assert "another program left it incomplete (ESTALE)" in capfd.readouterr().err


def test_a_log_that_another_keeps_locked_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.parent.mkdir(parents=True)
    with log.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        use(monkeypatch, tmp_path, Tpm(TWO, DONE))
        assert pcr.measure(settings(), DIGEST, "carried")
    assert "another program keeps it locked (EAGAIN)" in capfd.readouterr().err
    assert log.read_bytes() == b""


def test_a_log_that_cannot_be_locked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_cfs, "file_lock", fail)
    use(monkeypatch, tmp_path, Tpm(TWO, DONE))
    assert pcr.measure(settings(), DIGEST, "carried")
    assert "not logged: No locks available (ENOLCK)" in capfd.readouterr().err
    assert log.read_bytes() == b""


@pytest.mark.parametrize("kind", ["link", "fifo", "read-fifo", "directory"])
def test_a_log_that_is_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path,
    capfd: pytest.CaptureFixture[str], kind: str,
) -> None:  # fmt: skip
    log.parent.mkdir(parents=True)
    if kind == "link":
        log.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        log.mkdir()
    else:
        os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK) if kind == "read-fifo" else -1
    use(monkeypatch, tmp_path, Tpm(TWO, DONE))
    assert pcr.measure(settings(), DIGEST, "carried")
    said = capfd.readouterr().err
    assert said.count("the measurement is not logged") == 1
    assert ("no regular file (EINVAL)" in said) == (kind == "read-fifo")
    if reader >= 0:
        os.close(reader)
    assert not (tmp_path / "elsewhere").exists()


def test_a_record_that_is_not_whole_keeps_the_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "fsync", fail)
    use(monkeypatch, tmp_path, Tpm(TWO, DONE))
    assert pcr.measure(settings(), DIGEST, "carried")
    assert "not logged: No space left on device (ENOSPC)" in capfd.readouterr().err
    assert stat.S_IMODE(log.stat().st_mode) == 0o1600
