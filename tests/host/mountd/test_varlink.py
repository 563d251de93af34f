# SPDX-License-Identifier: Apache-2.0 OR MIT
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.mountd import varlink
from pyinit.host.mountd.varlink import Call, Malformed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["method", "parameters", "more", "oneway", "upgrade", "other"])


def test_a_call() -> None:
    assert varlink.parse(b'{"method":"a.B","parameters":{"x":"y"}}') == Call("a.B", {"x": "y"})
    assert varlink.parse(b'{"method":"a.B"}') == Call("a.B", {})
    text = b' {"more": true, "oneway": false, "upgrade": false, "method": "\\u0061"} '
    assert varlink.parse(text) == Call("a", {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON: "),
        (b"{", "no JSON: "),
        (b"\xff", "no JSON: "),
        (b'{"method":"a"}x', "no JSON: "),
        (b'\xef\xbb\xbf{"method":"a"}', "no JSON: "),
        (b'{"method":"a","parameters":{"x":NaN}}', "no JSON: NaN"),
        (b'{"method":"a","parameters":{"x":-Infinity}}', "no JSON: -Infinity"),
        (b"[" * 4000, "too deep"),
        (b'{"method":' + b"[" * 4000, "too deep"),
        (b'{"method":"' + b"a" * varlink.MAX + b'"}', "more than 4096 bytes"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b'"method"', "no object"),
        (b"{}", "no method"),
        (b'{"method":1}', "no method"),
        (b'{"method":null}', "no method"),
        (b'{"method":"a","parameters":null}', "no object"),
        (b'{"method":"a","parameters":[]}', "no object"),
        (b'{"method":"a","method":"a"}', "a key is there twice"),
        (b'{"method":"a","parameters":{"x":1,"x":1}}', "a key is there twice"),
        (b'{"method":"a","oneway":true}', "oneway"),
        (b'{"method":"a","upgrade":true}', "upgrade"),
        (b'{"method":"a","oneway":0}', "oneway"),
        (b'{"method":"a","more":1}', "a key that no call has"),
        (b'{"method":"a","other":1}', "a key that no call has"),
    ],
)
def test_what_is_none(data: bytes, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        varlink.parse(data)
    assert words in str(caught.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_call_or_malformed(data: bytes) -> None:
    try:
        call = varlink.parse(data)
    except Malformed:
        return
    assert json.loads(data)["method"] == call.method


@given(st.dictionaries(KEYS, JSON) | JSON)
def test_any_json_is_a_call_or_malformed(value: object) -> None:
    data = json.dumps(value).encode()
    try:
        call = varlink.parse(data)
    except Malformed:
        return
    assert isinstance(value, dict)
    assert call == Call(value["method"], value.get("parameters", {}))
    assert not {"other"} & set(value)
    assert value.get("oneway", False) is value.get("upgrade", False) is False


@given(st.text(), st.text())
def test_an_answer_is_one_message(key: str, text: str) -> None:
    """Whatever the caller's own words in it are."""
    for message in (varlink.reply({key: text}), varlink.error("a.B", x=text)):
        assert message.count(varlink.END) == 1
        assert message[-1:] == varlink.END
        assert message.isascii()
    assert json.loads(varlink.error("a.B", x=text)[:-1]) == {
        "error": "a.B", "parameters": {"x": text},
    }  # fmt: skip
