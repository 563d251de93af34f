# SPDX-License-Identifier: Apache-2.0 OR MIT
"""setup-root-conf.toml: the user's form of the initrd's configuration, checked and translated.

The keys of composefs-setup-root and bootc with their meaning and defaults, and ours. What is
allowed is said in one place, the JSON Schema beside this file, and checked by it.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from pyinit.host import toml_position
from pyinit.initrd import config
from pyinit.initrd.config import Config
from pyinit.initrd.errors import UsageError

MAX = 65536
"""Bytes of a file."""

SCHEMA: dict[str, Any] = json.loads(
    files("pyinit.host").joinpath("setup-root-conf.schema.json").read_text("utf-8")
)
TABLES: dict[str, list[str]] = {
    table: list(content["properties"]) for table, content in SCHEMA["properties"].items()
}

# What has a key of its own in the compiled form. The others are put together: see _translate().
_KEYS = {
    ("root", "size"): "root-size",
    ("etc", "size"): "etc-size",
    ("etc", "path"): "state-etc",
    ("var", "size"): "var-size",
    ("var", "path"): "state-var",
    ("state", "missing"): "state-missing",
    ("state", "grow"): "state-grow",
    ("digest", "source"): "digest-source",
    ("digest", "uki"): "uki",
    ("store", "path"): "store",
    ("sysroot", "readonly"): "sysroot-readonly",
    ("failure", "action"): "failure",
    ("failure", "delay"): "failure-delay",
    ("device", "wait"): "root-wait",
}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Path = tuple[str, ...]


class ConfigErrors(Exception):
    """What is wrong with a file, in its order: UsageError("config", "FILE:LINE:COLUMN", …)."""

    def __init__(self, errors: list[UsageError]) -> None:
        super().__init__(*errors)
        self.errors = errors


def read(data: bytes, where: str) -> Config:
    """The configuration. ConfigErrors."""
    try:
        return _read(data, where)
    except RecursionError:
        # tomllib's, or the schema's: both follow the nesting of the text
        raise ConfigErrors([UsageError("config", where, "nested too deeply")]) from None


def _read(data: bytes, where: str) -> Config:
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise ConfigErrors([UsageError("config", where, found, "UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        position, words = toml_position.of_error(text, error)
        raise ConfigErrors([_error(where, position, words)]) from None

    def at(path: Path, found: str, expected: str = "") -> tuple[toml_position.Position, UsageError]:
        position = toml_position.of_key(text, path)
        return position, _error(where, position, found, expected)

    faults = [at(*fault) for fault in _faults(document)]
    if not faults:
        values = _translate(document)
        faults = [at(*fault) for fault in _value_faults(document, values)]
    if faults:
        raise ConfigErrors([error for _, error in sorted(faults, key=lambda fault: fault[0])])
    return config.parse(_lines(values), where)


def _error(
    where: str, position: toml_position.Position, found: str, expected: str = ""
) -> UsageError:
    return UsageError("config", f"{where}:{position[0]}:{position[1]}", found, expected)


# ---- what the schema refuses


def _faults(document: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """(path, what was found, what was expected)"""
    for error in Draft202012Validator(SCHEMA).iter_errors(document):
        path = tuple(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            known = TABLES[path[0]] if path else TABLES
            for key in error.instance:
                if key in known:
                    continue
                yield (*path, key), *_unknown((*path, key))
        else:
            yield path, f"{_name(path)} = {_value(error.instance)}", _expected(error)


def _unknown(path: Path) -> tuple[str, str]:
    if len(path) == 1:
        [key] = path
        return f"unknown table [{key}]", _nearest(key, {f"[{table}]": table for table in TABLES})
    table, key = path
    elsewhere = {f"[{other}] {key}": key for other in TABLES if key in TABLES[other]}
    return f"unknown key {_name(path)}", _nearest(key, {k: k for k in TABLES[table]} | elsewhere)


def _nearest(key: str, known: dict[str, str]) -> str:
    """The one that was meant, or all."""
    for name, text in known.items():
        if text == key:
            return name
    close = difflib.get_close_matches(key.lower(), known.values(), 1, 0.6)
    names = [name for name, text in known.items() if text in close]
    return names[0] if names else "one of " + ", ".join(known)


def _expected(error: ValidationError) -> str:
    schema: Any = error.schema
    if error.validator == "enum":
        return " or ".join(map(str, schema["enum"]))
    if error.validator == "anyOf":
        return 'bytes, as a number or like "64M"' + (
            "" if "default" not in schema and len(schema["anyOf"]) == 2 else ', or like "25%"'
        )
    if error.validator in ("minimum", "maximum"):
        return f"{schema['minimum']} to {schema['maximum']}"
    if error.validator == "pattern":
        return "an absolute path"
    return {"object": "a table", "boolean": "true or false"}.get(
        schema["type"], f"a value of type {schema['type']}"
    )


def _name(path: Path) -> str:
    return path[0] if len(path) == 1 else f"[{path[0]}] {'.'.join(path[1:])}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, default=str)[:80]


# ---- the compiled form


def _translate(document: Mapping[str, Any]) -> dict[str, tuple[Path, str]]:
    """Key to (where it comes from, text)."""
    values: dict[str, tuple[Path, str]] = {}
    for path, key in _KEYS.items():
        value = _get(document, path)
        if value is not None:
            values[key] = path, _text(value)
    for table, default in (("etc", "overlay"), ("var", "bind")):
        mount = _get(document, (table, "mount"))
        if mount is None:
            mount = "transient" if _get(document, (table, "transient")) else default
        values[table] = (table, "mount"), mount
    root = "sealed"
    if _get(document, ("root", "transient-ro")):
        root = "transient-ro"
    elif _get(document, ("root", "transient")):
        root = "transient"
    values["root"] = ("root", "transient"), root
    return values


def _get(document: Mapping[str, Any], path: Path) -> Any:
    table, key = path
    return document.get(table, {}).get(key)


def _text(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value[:-1].isdecimal() and value[-1:] in _UNITS:
        return str(int(value[:-1]) * _UNITS[value[-1]])
    return str(value)


def _value_faults(
    document: Mapping[str, Any], values: dict[str, tuple[Path, str]]
) -> Iterator[tuple[Path, str, str]]:
    """What the initrd's own parser refuses."""
    for key, (path, text) in values.items():
        shown = f"{_name(path)} = {_value(_get(document, path))}"
        if not (text.isascii() and text.isprintable()):
            # before any line is made of it: a newline would end the line and begin another key
            yield path, shown, "printable ASCII"
            continue
        try:
            config.parse(_lines({key: (path, text)}), "")
        except UsageError as error:
            yield path, shown, error.expected


def _lines(values: Mapping[str, tuple[Path, str]]) -> bytes:
    lines = [f"{key}={text}\n" for key, (_, text) in values.items()]
    return (config.FIRST + "\n" + "".join(lines)).encode("utf-8")
