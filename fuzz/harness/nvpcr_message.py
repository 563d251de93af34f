# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What systemd answers to extending an NvPCR. Held against the reader of JSON that is not in the
initrd."""

import json

from pyinit.initrd.machine import nvpcr_message


def check(data: bytes) -> None:
    said = nvpcr_message.fault(data)
    assert said.isascii() and said.isprintable() and len(said) < 420
    if not said:
        assert json.loads(data) in ({}, {"parameters": {}})
