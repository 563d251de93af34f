# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The tables, and the JSON Schema that editors get: they refuse the same, at the same places."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pyinit.host.config import setup_root_tables
from pyinit.host.config.setup_root_tables import KEYS, Document

SCHEMA = json.loads(files("pyinit.host.config").joinpath("setup-root-conf.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
ALL_KEYS = sorted({key for keys in KEYS.values() for key in keys})
WORDS = sorted({
    word
    for content in SCHEMA["properties"].values()
    for schema in content["properties"].values()
    for word in schema.get("enum", ())
    if isinstance(word, str)
})  # fmt: skip
PATHS = ["", "/", "//", "/.", "/a", "/state/{digest}/etc", "a", "./a", " /a", "/\u00e4"]
SIZES = [
    *("0", "1", "00", "01", "9", "10", "K", "1K", "1M", "1G", "1T", "1P", "1k", "1KB", "-1", "+1"),
    *("1.5M", "0%", "1%", "9%", "10%", "99%", "100%", "101%", "199%", "010%", "%", "1%%", " 1"),
    *("1" * 15, "1" * 16, "0" * 15, "0" * 16, "9" * 15 + "T", "\u0661", "0K"),
]
EDGES = [0, 1, 3600, 1 << 62]
NUMBERS = [number + step for number in EDGES for step in (-1, 0, 1)]
# JSON has one type of number: 1.0 is a whole one to a schema, and a float in TOML, which is
# refused. No other case is left out.
FLOATS = st.floats(allow_nan=False).filter(lambda number: not number.is_integer())
values = (
    st.sampled_from([*WORDS, *PATHS, *SIZES, *NUMBERS, True, False, [], {}, [1], {"a": 1}])
    | st.integers()
    | FLOATS
    | st.text(max_size=5).filter(str.isprintable)
)


def refused_by_the_tables(document: dict[str, Any]) -> set[tuple[str, ...]]:
    return {path for path, _, _ in setup_root_tables.faults(document)}


def refused_by_the_schema(document: dict[str, Any]) -> set[tuple[str, ...]]:
    found = set()
    for error in VALIDATOR.iter_errors(document):
        path = tuple(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            found |= {(*path, key) for key in error.instance if key not in known}
        else:
            found.add(path)
    return found


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_same_tables_and_keys() -> None:
    assert {table: list(keys) for table, keys in KEYS.items()} == {
        table: list(content["properties"]) for table, content in SCHEMA["properties"].items()
    }


@pytest.mark.parametrize(("table", "key"), [(t, k) for t, keys in KEYS.items() for k in keys])
def test_each_value_at_each_key(table: str, key: str) -> None:
    for value in [*WORDS, *PATHS, *SIZES, *NUMBERS, True, False, 0.5, [], {}, ["/a"], {"a": 1}]:
        document = {table: {key: value}}
        refused = refused_by_the_tables(document)
        assert refused == refused_by_the_schema(document), value
        assert refused <= {(table, key)}


@given(
    st.dictionaries(
        st.sampled_from([*KEYS, "Root", "rot", ""]),
        st.dictionaries(st.sampled_from([*ALL_KEYS, "x", "transient_ro", ""]), values, max_size=4)
        | values,
        max_size=4,
    )
)
@example({"root": [{"transient": True}]})
@example({"root": {"transient_ro": True, "transient-ro": 1}, "rot": {}, "etc": 1})
def test_whole_documents(document: dict[str, Any]) -> None:
    assert refused_by_the_tables(document) == refused_by_the_schema(document)


@pytest.mark.parametrize("value", [1.0, float("inf"), float("nan")])
def test_a_float_is_no_number_of_seconds(value: float) -> None:
    assert refused_by_the_tables({"device": {"wait": value}}) == {("device", "wait")}


def test_typed() -> None:
    assert setup_root_tables.typed({}) == Document()
    document = {"root": {"transient-ro": True, "size": "1M"}, "device": {"wait": 3}}
    assert not refused_by_the_tables(document)
    tables = setup_root_tables.typed(document)
    assert (tables.root.transient_ro, tables.root.transient, tables.root.size) == (True, None, "1M")
    assert tables.device.wait == 3
    assert tables.etc == Document().etc


def test_what_is_expected_is_said_of_each_key() -> None:
    for keys in KEYS.values():
        for key, rule in keys.items():
            assert rule.expected, key
