# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What systemd answers: as it was seen of systemd 262, and as nobody should."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.machine import nvpcr_message

SYSTEM = (
    b'{"error":"io.systemd.System","parameters":'
    b'{"origin":"linux","errno":95,"errnoName":"EOPNOTSUPP"}}'
)


@pytest.mark.parametrize("answer", [b'{"parameters":{}}', b"{}", b' { "parameters" : {\n} }\t'])
def test_done(answer: bytes) -> None:
    assert nvpcr_message.fault(answer) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"error":"io.systemd.PCRExtend.NoSuchNvPCR","parameters":{}}',
         "systemd answers io.systemd.PCRExtend.NoSuchNvPCR"),
        (b'{"error": "io.systemd.PCRExtend.NvPCRSpaceExhausted"}',
         "systemd answers io.systemd.PCRExtend.NvPCRSpaceExhausted"),
        (SYSTEM, "systemd answers io.systemd.System (EOPNOTSUPP)"),
        (b'{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"nvpcr"}}',
         "systemd answers org.varlink.service.InvalidParameter"),
        (b"", "systemd answers what is not known here: b''"),
        (b"ok", "systemd answers what is not known here: b'ok'"),
        (b'{"parameters":{}', "systemd answers what is not known here: b'{\"parameters\":{}'"),
        (b'{"parameters":{"a":1}}', "systemd answers what is not known here"),
        (b'{"parameters":{}}\0', "systemd answers what is not known here"),
        (b'{"error":""}', "systemd answers what is not known here"),
        (b'{"error":null}', "systemd answers what is not known here"),
        (b'{"error":"a\xff"}', r"systemd answers what is not known here: b'{\"error\":\"a\xff\"}'"),
        (b'{"error":"a\x1b[1m"}', "systemd answers what is not known here"),
        (b'{"error":"' + b"a" * 81 + b'"}', "systemd answers what is not known here"),
    ],
)  # fmt: skip
def test_not_done(answer: bytes, said: str) -> None:
    if "known" not in said:
        assert nvpcr_message.fault(answer) == said
    assert nvpcr_message.fault(answer).startswith(said.replace('\\"', '"'))


@given(st.binary(max_size=200))
def test_anything_else_is_a_fault_in_one_short_line(answer: bytes) -> None:
    said = nvpcr_message.fault(answer)
    assert said.isascii()
    assert said.isprintable() or not said
    assert len(said) < 420
    if not said:
        assert json.loads(answer) in ({}, {"parameters": {}})
