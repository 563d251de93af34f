# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Messages of Varlink: a JSON object each, and a NUL behind it. Who calls may be anybody."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

MAX = 4096
"""Bytes of a call."""
END = b"\0"


class Malformed(Exception):
    """It is no call that could be answered."""


class Call(NamedTuple):
    """What is asked for."""

    method: str
    """As `interface.Name`."""
    parameters: dict[str, object]


def parse(data: bytes) -> Call:
    """A call, without its NUL. Malformed: no JSON, a key twice, one that no call has."""
    if len(data) > MAX:
        raise Malformed(f"more than {MAX} bytes")
    try:
        message = json.loads(
            data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number
        )
    except RecursionError:
        raise Malformed("too deep") from None
    except ValueError as error:
        raise Malformed(f"no JSON: {error}") from None
    if not isinstance(message, dict):
        raise Malformed("no object")
    method, parameters = message.pop("method", None), message.pop("parameters", {})
    more = message.pop("more", False)  # of answers: there is one all the same
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise Malformed("no method, or parameters that are no object")
    # Who wants no answer wants no mount, and there is no other protocol.
    if message.pop("oneway", False) is not False or message.pop("upgrade", False) is not False:
        raise Malformed("oneway or upgrade")
    if message or not isinstance(more, bool):
        raise Malformed("a key that no call has")
    return Call(method, parameters)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a key is there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"no JSON: {text}")


def reply(parameters: dict[str, object]) -> bytes:
    """The answer to a call."""
    return _write({"parameters": parameters})


def error(name: str, **parameters: str) -> bytes:
    """The answer to a call that failed."""
    return _write({"error": name, "parameters": parameters})


def _write(message: dict[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + END
