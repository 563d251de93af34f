# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The tables and keys of setup-root-conf.toml, with their types: what users may write.

One place says it. The JSON Schema beside this file says the same for editors, and a test feeds both
the same cases. Defaults are not here: a key that is not given is left to the initrd's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

KeyPath = tuple[str, ...]
"""Table and key, or the table alone."""

Fault = tuple[KeyPath, object, str]
"""Where, the value there, and what was expected in its place."""

_BYTES_MAX = 1 << 62


@dataclass(frozen=True)
class Rule:
    """A test for a value, and the words for a message where the value fails it."""

    accepts: Callable[[object], bool]
    expected: str


def _choice(*words: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in words, " or ".join(words))


def _number(lowest: int, highest: int) -> Rule:
    def accepts(value: object) -> bool:
        # `type`, since a bool is an int to isinstance.
        return type(value) is int and lowest <= value <= highest

    return Rule(accepts, f"{lowest} to {highest}")


def _text(pattern: str, expected: str) -> Rule:
    compiled = re.compile(pattern)
    return Rule(lambda value: isinstance(value, str) and bool(compiled.fullmatch(value)), expected)


def _either(expected: str, *rules: Rule) -> Rule:
    return Rule(lambda value: any(rule.accepts(value) for rule in rules), expected)


_BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false")
_ABSOLUTE = _text(r"/(?s:.*)", "an absolute path")
_STATE = _text(r"/.(?s:.*)", "an absolute path")
_DEVICE = _text(r"((/dev/|[A-Z]+=)[!-~]{1,250})?", "a device as root= names it, or nothing")
_ABSOLUTE_OR_EMPTY = _text(r"(/(?s:.*))?", "an absolute path, or nothing")
_SECONDS = _number(0, 3600)
_PCR = _either("none or 8 to 15", _choice("none"), _number(8, 15))
_NVPCR = _text("([A-Za-z][A-Za-z0-9_-]{0,63})?", "the name of an NvPCR, or nothing")
_BYTES = _either(
    'bytes, as a number or like "64M"', _number(0, _BYTES_MAX), _text("[0-9]{1,15}[KMGT]?", "")
)
_SIZE = _either(
    'bytes, as a number or like "64M", or like "25%"',
    _number(1, _BYTES_MAX),
    _text("[1-9][0-9]{0,14}[KMGT]?", ""),
    _text("([1-9][0-9]?|100)%", ""),
)


def _key(rule: Rule, compiled: str = "") -> Any:
    """A key that may be left out. `compiled`: its name in the compiled form, where its value
    stands there as it is."""
    return dataclasses.field(default=None, metadata={"rule": rule, "compiled": compiled})


ALIASES = {"root": "none", "volatile": "transient"}
"""bootc's words for two modes, taken in its profile only."""

PROFILES: dict[str, dict[str, str]] = {
    "none": {"etc": "transient", "var": "transient"},
    "bootc": {"digest-source": "cmdline", "etc": "bind", "var": "bind", "state-missing": "refuse"},
}
"""By the name of a profile, what it makes of keys that are not given: compiled key to value."""

BEFORE = {"etc": "overlay", "var": "bind"}
"""What 0.1.0 made of a table without a mode. Whoever relied on that is told."""


@dataclass(frozen=True)
class Profile:
    """[profile]"""

    name: str | None = _key(_choice(*PROFILES), "profile")


@dataclass(frozen=True)
class Root:
    """[root]"""

    transient: bool | None = _key(_BOOLEAN)
    transient_ro: bool | None = _key(_BOOLEAN)
    size: int | str | None = _key(_SIZE, "root-size")


@dataclass(frozen=True)
class Etc:
    """[etc]"""

    mount: str | None = _key(_choice("none", "bind", "overlay", "transient", *ALIASES))
    transient: bool | None = _key(_BOOLEAN)
    size: int | str | None = _key(_SIZE, "etc-size")
    path: str | None = _key(_STATE, "state-etc")


@dataclass(frozen=True)
class Var:
    """[var]"""

    mount: str | None = _key(
        _choice("none", "bind", "overlay", "transient", "transient-disk", *ALIASES)
    )
    transient: bool | None = _key(_BOOLEAN)
    size: int | str | None = _key(_SIZE, "var-size")
    path: str | None = _key(_STATE, "state-var")


@dataclass(frozen=True)
class State:
    """[state]"""

    missing: str | None = _key(_choice("create", "refuse"), "state-missing")
    grow: int | str | None = _key(_BYTES, "state-grow")


@dataclass(frozen=True)
class DigestSource:
    """[digest]"""

    source: str | None = _key(
        _choice("carried", "cmdline", "any", "uki", "first-initrd"), "digest-source"
    )
    uki: str | None = _key(_choice("compare", "require", "off"), "uki")


@dataclass(frozen=True)
class Store:
    """[store]"""

    path: str | None = _key(_ABSOLUTE, "store")


@dataclass(frozen=True)
class Sysroot:
    """[sysroot]"""

    readonly: bool | None = _key(_BOOLEAN, "sysroot-readonly")
    volatile_root_link: bool | None = _key(_BOOLEAN, "volatile-root-link")


@dataclass(frozen=True)
class Failure:
    """[failure]"""

    action: str | None = _key(_choice("reboot", "poweroff", "shell"), "failure")
    delay: int | None = _key(_SECONDS, "failure-delay")


@dataclass(frozen=True)
class Device:
    """[device]"""

    wait: int | None = _key(_SECONDS, "root-wait")
    discover: bool | None = _key(_BOOLEAN, "root-discover")


@dataclass(frozen=True)
class Initrd:
    """[initrd]"""

    device: str | None = _key(_DEVICE, "initrd-device")
    store: str | None = _key(_ABSOLUTE_OR_EMPTY, "initrd-store")
    size: int | str | None = _key(_SIZE, "initrd-size")


@dataclass(frozen=True)
class Extensions:
    """[extensions]"""

    missing: str | None = _key(_choice("refuse", "skip"), "extensions-missing")


@dataclass(frozen=True)
class Measure:
    """[measure]"""

    pcr: int | str | None = _key(_PCR, "measure-pcr")
    required: bool | None = _key(_BOOLEAN, "measure-required")
    nvpcr: str | None = _key(_NVPCR, "measure-nvpcr")


@dataclass(frozen=True)
class Document:
    """The whole file. A table that is not there is one without keys."""

    profile: Profile = Profile()
    root: Root = Root()
    etc: Etc = Etc()
    var: Var = Var()
    state: State = State()
    digest: DigestSource = DigestSource()
    initrd: Initrd = Initrd()
    extensions: Extensions = Extensions()
    measure: Measure = Measure()
    store: Store = Store()
    sysroot: Sysroot = Sysroot()
    failure: Failure = Failure()
    device: Device = Device()


_CLASSES: dict[str, Any] = get_type_hints(Document)


def _written(field: str) -> str:
    """A field's name as users write it."""
    return field.replace("_", "-")


KEYS: dict[str, dict[str, Rule]] = {
    table: {_written(field.name): field.metadata["rule"] for field in dataclasses.fields(content)}
    for table, content in _CLASSES.items()
}
"""Table to its keys, and the rule of each."""

COMPILED: dict[KeyPath, str] = {
    (table, _written(field.name)): field.metadata["compiled"]
    for table, content in _CLASSES.items()
    for field in dataclasses.fields(content)
    if field.metadata["compiled"]
}
"""Table and key to the name in the compiled form."""


def faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with a parsed file. Of an unknown table or key, `expected` is empty."""
    for table, content in document.items():
        if table not in KEYS:
            yield (table,), content, ""
        elif not isinstance(content, dict):
            yield (table,), content, "a table"
        else:
            for key, value in content.items():
                rule = KEYS[table].get(key)
                if rule is None:
                    yield (table, key), value, ""
                elif not rule.accepts(value):
                    yield (table, key), value, rule.expected


def typed(document: Mapping[str, Any]) -> Document:
    """A parsed file without faults, with types."""
    return Document(**{table: _typed(_CLASSES[table], keys) for table, keys in document.items()})


_Table = TypeVar("_Table")


def _typed(kind: type[_Table], keys: Mapping[str, Any]) -> _Table:
    return kind(**{key.replace("-", "_"): value for key, value in keys.items()})
