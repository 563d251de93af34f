# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Two commands of a TPM 2.0 and their answers: which banks have a PCR, and extending it in them.

Source: TCG, TPM 2.0 Library, part 3 (commands) and part 2 (structures). All numbers are big-endian.
"""

import _cfs

ALGORITHMS = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C, "sha512": 0x0D}
"""Banks that can be extended: name, as systemd has it, to TPM_ALG_ID."""

MAX = 4096
"""Bytes of an answer: the kernel's own buffer."""

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_EXTEND, _GET_CAPABILITY = 0x182, 0x17A
_CAP_PCRS = 5
_PASSWORD = 0x40000009  # TPM_RS_PW: with an empty one, as PCRs have it
_HEADER = 10
# Answers that tell a person something. The others stand there as numbers.
_CODES = {
    0x100: "TPM_RC_INITIALIZE: the firmware has not started it",
    0x101: "TPM_RC_FAILURE: it failed its own test",
    0x907: "TPM_RC_LOCALITY: this PCR is not for us",
    0x921: "TPM_RC_LOCKOUT: it is locked after wrong passwords",
    0x922: "TPM_RC_RETRY: it is busy",
}


class TpmError(Exception):
    """A TPM that is missing, cannot do it, or answers something else; the text says what."""


def banks_command() -> bytes:
    """TPM2_GetCapability of all banks."""
    return _command(_NO_SESSIONS, _GET_CAPABILITY, _numbers(_CAP_PCRS, 0, 1))


def banks(answer: bytes, pcr: int) -> list[str]:
    """Names of all banks that have this PCR. TpmError: one is unknown here, none is stronger than
    SHA-1, or the answer is not one to that command."""
    body = _body(answer, _NO_SESSIONS, "TPM2_GetCapability")
    malformed = TpmError("TPM2_GetCapability: a malformed answer")
    if len(body) < 9 or body[0] != 0 or body[1:5] != _numbers(_CAP_PCRS):
        raise malformed
    names = {number: name for name, number in ALGORITHMS.items()}
    found = []
    at = 9
    for _ in range(_number(body, 5)):
        end = at + 3 + (body[at + 2] if at + 2 < len(body) else MAX)
        if end > len(body):
            raise malformed
        selected = body[at + 3 : end]
        if pcr // 8 < len(selected) and selected[pcr // 8] >> pcr % 8 & 1:
            number = body[at] << 8 | body[at + 1]
            if number not in names:
                raise TpmError(f"a bank of the algorithm 0x{number:04x}, which is not known here")
            if names[number] in found:
                raise malformed
            found.append(names[number])
        at = end
    if at != len(body):
        raise malformed
    if not set(found) - {"sha1"}:
        raise TpmError("a bank of SHA-1 alone" if found else "no bank has this PCR")
    return found


def digests(names: list[str], data: bytes) -> dict[str, bytes]:
    """By the name of a bank, what it is extended with."""
    return {name: _cfs.sha(ALGORITHMS[name], data) for name in names}


def extend_command(pcr: int, values: dict[str, bytes]) -> bytes:
    """TPM2_PCR_Extend of all these banks at once: either all are extended, or none is."""
    session = _numbers(_PASSWORD) + bytes(5)
    hashes = b"".join(ALGORITHMS[name].to_bytes(2, "big") + value for name, value in values.items())
    rest = _numbers(pcr, len(session)) + session + _numbers(len(values)) + hashes
    return _command(_SESSIONS, _EXTEND, rest)


def extended(answer: bytes) -> None:
    """TpmError: it does not say that it was done."""
    body = _body(answer, _SESSIONS, "TPM2_PCR_Extend")
    if body[:4] != bytes(4) or len(body) != 9:  # no parameters, and one empty session
        raise TpmError("TPM2_PCR_Extend: a malformed answer")


def _body(answer: bytes, tag: int, command: str) -> bytes:
    if len(answer) < _HEADER or _number(answer, 2) != len(answer):
        raise TpmError(f"{command}: an answer of {len(answer)} bytes that is cut or too long")
    code = _number(answer, 6)
    if code:
        raise TpmError(f"{command}: it answers {_CODES.get(code, hex(code))}")
    if answer[:2] != tag.to_bytes(2, "big"):
        raise TpmError(f"{command}: a malformed answer")
    return answer[_HEADER:]


def _command(tag: int, code: int, rest: bytes) -> bytes:
    return tag.to_bytes(2, "big") + _numbers(_HEADER + len(rest), code) + rest


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
