# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in a PCR of the TPM: what was composed, for keys and for who asks from afar. systemd's
NvPCR is extended by the same text (nvpcr.py).

The hash of `composefs:<where>:<algorithm>:<digest>:<source>` extends all banks at once. The record
of it goes to systemd's log of such measurements, by its rules (tpm2-util.c of systemd 257): the log
is locked before the TPM is asked, so that both have the same order; its sticky bit says that it
lacks what was extended last.
"""

import _cfs
import errno
import posix
import time

from pyinit.initrd.handover import nvpcr, status
from pyinit.initrd.kernel import files
from pyinit.initrd.machine import tpm_message
from pyinit.initrd.machine.tpm_message import TpmError
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, os_error
from pyinit.initrd.root.digest import ALGORITHMS, Digest
from pyinit.initrd.source.config import Config

DEVICE = "/dev/tpmrm0"
LOG = "/run/log/systemd/tpm2-measure.log"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_UPTIME = "/proc/uptime"  # CLOCK_BOOTTIME, of which `time` has none here
_STICKY = 0o1000
_ATTEMPTS, _PAUSE_SECONDS = 100, 0.05


def measure(settings: Config, digest: Digest, source: str, place: str = "/") -> "status.Value":
    """Extends the PCR and the NvPCR that the configuration names by an image and where it is
    mounted in the new system; what the status record says of it, None where it names neither.
    Refused("measure"): the PCR must be extended, and could not be."""
    what = "the root" if place == "/" else place
    text = f"composefs:{place}:{ALGORITHMS[digest.algorithm]}:{digest.hex}:{source}"
    found: dict[str, status.Value] = {}
    if settings.measure_pcr != "none":
        found.update(_into_pcr(int(settings.measure_pcr), settings.measure_required, what, text))
    name = settings.measure_nvpcr
    if name:
        fault = nvpcr.extend(name, text)
        if fault and fault != nvpcr.NOT_ASKED:  # which the warning before has said
            output.err(f"warning: {what} is not measured into the NvPCR {name}: {fault}\n")
        found["nvpcr"] = {"name": name, "fault" if fault else "string": fault or text}
    return found or None


def _into_pcr(pcr: int, required: bool, what: str, text: str) -> "dict[str, status.Value]":
    try:
        values = extend(pcr, text)
    except TpmError as error:
        if required:
            expected = f"{what} measured ([measure] required)"
            raise Refused("measure", f"PCR {pcr}", str(error), expected) from None
        output.err(f"warning: {what} is not measured into PCR {pcr}: {error}\n")
        return {"pcr": pcr, "banks": [], "fault": str(error)}
    return {"pcr": pcr, "banks": list(values), "string": text}


def extend(pcr: int, text: str) -> dict[str, bytes]:
    """Extends all banks of the PCR and writes the record. TpmError: none was extended, as far as
    the TPM says."""
    try:
        fd = posix.open(DEVICE, posix.O_RDWR | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
        why = "no TPM 2.0, or no driver for it: " if missing else ""
        raise TpmError(f"{why}{DEVICE}: {os_error(error)}") from None
    try:
        banks = tpm_message.banks(_ask(fd, tpm_message.banks_command()), pcr)
        values = tpm_message.digests(banks, text.encode("ascii"))
        log = _open_log()
        try:
            tpm_message.extended(_ask(fd, tpm_message.extend_command(pcr, values)))
            if log >= 0:
                _write_log(log, _record(pcr, text, values))
        finally:
            if log >= 0:
                posix.close(log)
    finally:
        posix.close(fd)
    return values


def _ask(fd: int, command: bytes) -> bytes:
    """The driver has a time limit for each command; ETIME is its answer then."""
    try:
        posix.write(fd, command)
        return posix.read(fd, tpm_message.MAX)
    except OSError as error:
        raise TpmError(f"{DEVICE}: {os_error(error)}") from None


def _open_log() -> int:
    """Locked, and marked as one that lacks something. -1: a warning was said. A log that cannot be
    written changes nothing of what the PCR proves."""
    try:
        files.make_parents(LOG)
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
        fd = posix.open(LOG, flags | posix.O_NONBLOCK, 0o600)
        try:
            _mark(fd)
        except OSError:
            posix.close(fd)
            raise
    except OSError as error:
        output.err(f"warning: {LOG}: the measurement is not logged: {os_error(error)}\n")
        return -1
    return fd


def _mark(fd: int) -> None:
    _lock(fd)
    mode = posix.fstat(fd).st_mode
    if mode & 0o170000 != 0o100000:
        raise OSError(errno.EINVAL, "no regular file")
    if mode & _STICKY:
        raise OSError(errno.ESTALE, "another program left it incomplete")
    posix.fchmod(fd, 0o600 | _STICKY)


def _lock(fd: int) -> None:
    for _ in range(_ATTEMPTS):
        try:
            return _cfs.file_lock(fd)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
        time.sleep(_PAUSE_SECONDS)
    raise OSError(errno.EAGAIN, "another program keeps it locked")


def _record(pcr: int, text: str, values: dict[str, bytes]) -> bytes:
    """RFC 7464: a record separator, JSON, a newline."""
    boot_id = files.read(_BOOT_ID, 64).decode("ascii").strip().replace("-", "")
    seconds, _, rest = files.read(_UPTIME, 128).decode("ascii").split()[0].partition(".")
    content: dict[str, status.Value] = {
        "string": text,
        "bootId": boot_id,
        "timestamp": int(seconds) * 1_000_000 + int((rest + "000000")[:6]),
        "eventType": "filesystem",
    }
    hashes: list[status.Value] = [
        {"hashAlg": name, "digest": value.hex()} for name, value in values.items()
    ]
    record: dict[str, status.Value] = {
        "pcr": pcr, "digests": hashes, "content_type": "systemd", "content": content,
    }  # fmt: skip
    return b"\x1e" + status.to_json(record).encode("ascii") + b"\n"


def _write_log(fd: int, record: bytes) -> None:
    try:
        posix.lseek(fd, 0, 2)  # SEEK_END
        while record:
            record = record[posix.write(fd, record) :]
        posix.fsync(fd)
        posix.fchmod(fd, 0o600)
    except OSError as error:
        output.err(f"warning: {LOG}: the measurement is not logged: {os_error(error)}\n")
