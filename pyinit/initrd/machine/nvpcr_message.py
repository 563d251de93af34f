# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What systemd (259 and later) answers to io.systemd.PCRExtend.Extend: JSON, by Varlink.

The method gives nothing back. So an answer without anything in it is the one that says that it was
done, whatever its white space, and each other one is a fault.
"""

MAX = 4096
"""Bytes of an answer. systemd's have about a hundred."""

_DONE = (b'{"parameters":{}}', b"{}")
_SHOWN = 80


def fault(answer: bytes) -> str:
    """ "": the NvPCR was extended. Else what the answer says, in ASCII."""
    bare = b"".join(answer.split())
    if bare in _DONE:
        return ""
    name = _word(bare, b'"error":"')
    if not name:
        return f"systemd answers what is not known here: {answer[:_SHOWN]!r}"
    detail = _word(bare, b'"errnoName":"')
    return f"systemd answers {name}" + (f" ({detail})" if detail else "")


def _word(bare: bytes, before: bytes) -> str:
    """The string behind these bytes, if it is a name: letters, digits, dots."""
    text = bare.partition(before)[2].partition(b'"')[0]
    is_name = text.replace(b".", b"").isalnum() and len(text) <= _SHOWN
    return text.decode("ascii") if is_name else ""
