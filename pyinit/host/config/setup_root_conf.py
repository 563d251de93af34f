# SPDX-License-Identifier: Apache-2.0 OR MIT
"""setup-root-conf.toml: the user's form of the initrd's configuration, checked and translated.

The keys of composefs-setup-root and bootc with their meaning, and ours. Nothing is kept on the disk
unless the file, or its profile, says so. What is allowed is said in one place,
setup_root_tables.py.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pyinit.host.config import setup_root_tables, toml_position
from pyinit.host.config.setup_root_tables import COMPILED, KEYS, KeyPath
from pyinit.initrd.report.errors import UsageError
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

MAX = 65536
"""Bytes of a file."""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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
        # tomllib's, or json's: both follow the nesting of the text
        raise ConfigErrors([UsageError("config", where, "nested too deeply")]) from None


def warnings(data: bytes) -> list[str]:
    """For a file that read() has taken: what its writer may not know, a line of text each. Modes
    that 0.1.0 chose otherwise, and those that leave the kernel no level of stacking."""
    tables = setup_root_tables.typed(tomllib.loads(data.decode("utf-8")))
    modes = {
        "etc": (tables.etc.mount, tables.etc.transient),
        "var": (tables.var.mount, tables.var.transient),
    }
    above = {"etc": "systemd-confext", "var": "an overlay of a container in it"}
    full = [
        f'[{name}] mount = "overlay" is the second overlay there, and the kernel stacks two: '
        f"{above[name]} fails on older kernels, such as 6.12 (stackable in /run/cfs/root.json)"
        for name, (mount, _) in modes.items()
        if mount == "overlay"
    ]
    if (tables.profile.name or "none") != "none":
        return full
    return full + [
        f"[{name}] has no mount: changes in /{name} are lost when the machine is switched off "
        f'(version 0.1.0 kept them on the disk). Write mount = "transient", or mount = "{before}"'
        for name, before in setup_root_tables.BEFORE.items()
        if modes[name] == (None, None)
    ]


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

    def at(
        path: KeyPath, found: str, expected: str = ""
    ) -> tuple[toml_position.Position, UsageError]:
        position = toml_position.of_key(text, path)
        return position, _error(where, position, found, expected)

    faults = [at(*fault) for fault in _faults(document)]
    if not faults:
        values = _translate(document)
        faults = [at(*fault) for fault in _value_faults(document, values)]
        faults = faults or [at(*fault) for fault in _contradictions(document, values)]
    if faults:
        raise ConfigErrors([error for _, error in sorted(faults, key=lambda fault: fault[0])])
    return config.parse(_lines(values), where)


def _error(
    where: str, position: toml_position.Position, found: str, expected: str = ""
) -> UsageError:
    return UsageError("config", f"{where}:{position[0]}:{position[1]}", found, expected)


# ---- what the tables refuse


def _faults(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """(path, what was found, what was expected)"""
    for path, value, expected in setup_root_tables.faults(document):
        if expected:
            yield path, f"{_name(path)} = {_value(value)}", expected
        else:
            yield path, *_unknown(path)


def _unknown(path: KeyPath) -> tuple[str, str]:
    if len(path) == 1:
        [key] = path
        return f"unknown table [{key}]", _nearest(key, {f"[{table}]": table for table in KEYS})
    table, key = path
    elsewhere = {f"[{other}] {key}": key for other in KEYS if key in KEYS[other]}
    return f"unknown key {_name(path)}", _nearest(key, {k: k for k in KEYS[table]} | elsewhere)


def _nearest(key: str, known: dict[str, str]) -> str:
    """The one that was meant, or all."""
    for name, text in known.items():
        if text == key:
            return name
    close = difflib.get_close_matches(key.lower(), known.values(), 1, 0.6)
    names = [name for name, text in known.items() if text in close]
    return names[0] if names else "one of " + ", ".join(known)


def _name(path: KeyPath) -> str:
    return path[0] if len(path) == 1 else f"[{path[0]}] {'.'.join(path[1:])}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, default=str)[:80]


# ---- the compiled form


def _translate(document: Mapping[str, Any]) -> dict[str, tuple[KeyPath, str]]:
    """Key to (where it comes from, text)."""
    tables = setup_root_tables.typed(document)
    profile = tables.profile.name or "none"
    defaults = setup_root_tables.PROFILES[profile]
    values: dict[str, tuple[KeyPath, str]] = {}
    for key, text in defaults.items():
        values[key] = ("profile", "name"), text
    for path, key in COMPILED.items():
        value = _get(document, path)
        if value is not None:
            values[key] = path, _text(value)
    # The others are put together.
    aliases = setup_root_tables.ALIASES if profile == "bootc" else {}
    for key, table in (("etc", tables.etc), ("var", tables.var)):
        mode = table.mount or ("transient" if table.transient else defaults[key])
        values[key] = (key, "mount"), aliases.get(mode, mode)
    root = "sealed"
    if tables.root.transient_ro:
        root = "transient-ro"
    elif tables.root.transient:
        root = "transient"
    values["root"] = ("root", "transient"), root
    return values


def _get(document: Mapping[str, Any], path: KeyPath) -> Any:
    table, key = path
    return document.get(table, {}).get(key)


def _text(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value[:-1].isdecimal() and value[-1:] in _UNITS:
        return str(int(value[:-1]) * _UNITS[value[-1]])
    return str(value)


def _value_faults(
    document: Mapping[str, Any], values: dict[str, tuple[KeyPath, str]]
) -> Iterator[tuple[KeyPath, str, str]]:
    """The values that the initrd's own parser would refuse, each with found and expected."""
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


def _contradictions(
    document: Mapping[str, Any], values: Mapping[str, tuple[KeyPath, str]]
) -> Iterator[tuple[KeyPath, str, str]]:
    """`transient = false` alone says what is not wanted; where the default is just that, nobody
    knows what is. A `path` alone, and `missing = "refuse"`, were written for state that was kept.
    If none were kept, each change since the last boot would be lost without a word."""
    for table in ("etc", "var"):
        if _get(document, (table, "mount")) is not None or values[table][1] != "transient":
            continue
        path = table, "transient"
        if _get(document, path) is False:
            yield path, f"{_name(path)} = false", 'mount with it, as in mount = "overlay"'
        path = table, "path"
        if _get(document, path) is not None and _get(document, (table, "transient")) is None:
            found = f"{_name(path)} without mount: no state would be kept there"
            yield path, found, f'mount = "{setup_root_tables.BEFORE[table]}", as 0.1.0 had it'
    path = "measure", "required"
    if _get(document, path) is True and values.get("measure-pcr", (path, "none"))[1] == "none":
        yield path, f"{_name(path)} = true, but no PCR is named", "pcr with it, as in pcr = 15"
    kept = {values[table][1] for table in ("etc", "var")} - {"none", "transient"}
    path = "state", "missing"
    if not kept and _get(document, path) == "refuse":
        found = f'{_name(path)} = "refuse", but no state is kept on the disk'
        yield path, found, "mount in [etc] or [var]"


def _lines(values: Mapping[str, tuple[KeyPath, str]]) -> bytes:
    lines = [f"{key}={text}\n" for key, (_, text) in values.items()]
    return (config.FIRST + "\n" + "".join(lines)).encode("utf-8")
