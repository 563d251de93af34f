# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Answers of a TPM: to the question for its banks, and to extending them. The first byte is the
PCR."""

from pyinit.initrd.machine import tpm_message
from pyinit.initrd.machine.tpm_message import ALGORITHMS, TpmError


def check(data: bytes) -> None:
    pcr = 8 + data[0] % 8 if data else 8
    answer = data[1:]
    try:
        names = tpm_message.banks(answer, pcr)
    except TpmError as error:
        assert str(error).isascii()
    else:
        assert len(set(names)) == len(names)
        assert set(names) <= set(ALGORITHMS) and set(names) != {"sha1"}
        values = tpm_message.digests(names, answer)
        command = tpm_message.extend_command(pcr, values)
        assert int.from_bytes(command[2:6], "big") == len(command) <= tpm_message.MAX
    try:
        tpm_message.extended(answer)
    except TpmError as error:
        assert str(error).isascii()
    else:
        assert len(answer) == 19 and answer[:2] == b"\x80\x02"
