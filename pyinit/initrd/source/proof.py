# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Is this file the UKI that was booted? The TPM says so, or nothing does.

Firmware and stub write into a log what they extend PCRs with. Where its events give the values of
the TPM, the digests are true, and so is their order within a PCR; of their types, and of the order
between PCRs, the log itself is the word of what ran before. The last image that the firmware loaded
before the stub measured sections is the one that ran, and this file has to have its hash and these
sections. All of the file is read once, and what it says of the root is taken from the same bytes.
"""

import _cfs
import errno

from pyinit.initrd.kernel import files
from pyinit.initrd.machine.tpm_message import ALGORITHMS
from pyinit.initrd.report.errors import Refused, os_error
from pyinit.initrd.source import payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyinit.initrd.source.payload import Payload

TPM = "/sys/class/tpm/tpm0"
LOG = "tpm0/binary_bios_measurements"
"""Below securityfs."""
LOG_MAX = 16 << 20
_LOG = f"securityfs: {LOG}"
_OF_LOG = "event log"  # how confined.c begins to say what is wrong with it

_BANKS = ("sha256", "sha384", "sha512")
# What systemd may have extended since: systemd-pcrosseparator (261), systemd-pcrphase-initrd.
_LATER = {4: b"os-separator", 11: b"enter-initrd"}


def prove(fd: int, profile: int, where: str, security: int) -> "Payload":
    """What the section of that file says. `security`: securityfs. Refused("source", …): it is not
    proved, and which of the steps failed."""
    bank, before = _banks()
    number = ALGORITHMS[bank]
    *by_log, found, image, differs, data = _read(fd, profile, where, security, bank)
    for pcr, value, ours in zip(_LATER, before, by_log, strict=True):
        if _pcr(bank, pcr) != value:
            raise _unproved(f"PCR {pcr}", "changed while the UKI was read", value.hex())
        later = _cfs.sha(number, ours + _cfs.sha(number, _LATER[pcr]))
        if value not in (ours, later):
            expected = f"{ours.hex()} by the event log ({bank})"
            raise _unproved(f"PCR {pcr}", value.hex(), expected)
    if image is None:
        text = "the last application in it has no path: shim looked at a file, or there is none"
        raise _unproved("PCR 4", text, "one that firmware loaded, before the stub's sections")
    if found != image:
        expected = f"{image.hex()} of the image that ran"
        raise _unproved(where, f"Authenticode {bank} {found.hex()}", expected)
    if differs:
        raise _unproved(where, differs, "the sections that the stub measured")
    if data is None:
        raise _unproved(where, f"no section {payload.SECTION}", "one with the digest of the root")
    return payload.parse(data, f"{where}: {payload.SECTION}")


def _read(
    fd: int, profile: int, where: str, security: int, bank: str
) -> "tuple[bytes, bytes, bytes, bytes | None, str, bytes | None]":
    """Log and file, by the confined reader."""
    try:
        log = files.read(LOG, LOG_MAX, security)
    except OSError as error:
        raise _unproved(_LOG, os_error(error), "the event log of a TPM 2.0") from None
    try:
        return _cfs.uki_prove(fd, profile, ALGORITHMS[bank], log)
    except OSError as error:
        text = os_error(error)
        if text.startswith(_OF_LOG):
            raise _unproved(_LOG, text, f"a whole log, of {bank} too") from None
        raise _unproved(where, text, "a whole UKI") from None


def _banks() -> tuple[str, list[bytes]]:
    """The first bank that is no SHA-1, and what the PCRs have there."""
    for bank in _BANKS:
        try:
            return bank, [_pcr(bank, pcr) for pcr in _LATER]
        except FileNotFoundError:
            pass
    raise _unproved(TPM, "no TPM 2.0 with a driver, or a bank of SHA-1 alone", "a bank of SHA-256")


def _pcr(bank: str, pcr: int) -> bytes:
    path = f"{TPM}/pcr-{bank}/{pcr}"
    try:
        return bytes.fromhex(files.read(path, 256).decode("ascii"))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOENT:
            raise
        text = os_error(error) if isinstance(error, OSError) else "no hexadecimal digits"
        raise _unproved(path, text, "the value of the PCR") from None


def _unproved(where: str, found: str, expected: str) -> Refused:
    return Refused("source", where, f"not proved: {found}", expected)
