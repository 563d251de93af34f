# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A call of Varlink, which any user of the running system may write."""

import json

from pyinit.host.mountd import varlink
from pyinit.host.mountd.varlink import Malformed
from pyinit.initrd.report.errors import printable

_KEYS = {"method", "parameters", "more", "oneway", "upgrade"}


def check(data: bytes) -> None:
    try:
        call = varlink.parse(data)
    except Malformed as error:
        assert printable(str(error)).isprintable()  # the journal's line
        return
    assert len(data) <= varlink.MAX
    # The same by the standard library's plain reading, which lets more pass.
    message = json.loads(data)
    json.loads(data, object_pairs_hook=_each_once, parse_constant=_none)
    assert call == varlink.Call(message["method"], message.get("parameters", {}))
    assert set(message) <= _KEYS
    assert {message.get(key, False) for key in ("oneway", "upgrade")} == {False}
    # Words of the call that stand in an answer end no message.
    for answer in (
        varlink.error(f"{call.method}.x", parameter=call.method),
        varlink.reply({key: key for key in call.parameters}),
    ):
        assert answer.isascii()
        assert answer.count(varlink.END) == 1
        assert answer[-1:] == varlink.END


def _each_once(pairs: list[tuple[str, object]]) -> None:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))


def _none(constant: str) -> None:
    raise AssertionError(constant)
