# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the base initrd decides about the boot: a compiled file, made from the user's TOML.

First line `cfsconf1`, then `key=value` lines (keylines.py), each key at most once. It is the only
place that can allow a weaker digest source: never the command line, credentials or EFI variables.
"""

import errno

from pyinit.initrd import files, keylines
from pyinit.initrd.errors import SystemFailure, UsageError, os_error

PATH = "/usr/lib/composefs/setup-root.conf"
MAX = 16384
SECONDS_MAX = 3600

_FIRST = "cfsconf1"
_YES_NO = {"yes": True, "no": False}
_CHOICES = {
    "minimum-level": ("carried", "cmdline"),
    "uki": ("compare", "require", "off"),
    "failure": ("reboot", "poweroff", "shell"),
    "canary": ("first-object",),
}
_BOOLEANS = ("cmdline-digest", "sysroot-readonly")
_SECONDS = ("failure-delay", "root-wait")
# The key is the attribute with "-" for "_".
KEYS = ("store", *_CHOICES, *_BOOLEANS, *_SECONDS)


class Config:
    """Typed values; without arguments, the defaults."""

    __slots__ = tuple(key.replace("-", "_") for key in KEYS)

    def __init__(self) -> None:
        self.store = "/composefs"  # absolute path on the root file system
        self.cmdline_digest = False  # may composefs=, composefs.digest= be read at all?
        self.minimum_level = "carried"  # the weakest level that may boot
        # compare: the UKI's section, where it can be read, must agree with the carried file;
        # require: and not being able to read it stops the boot.
        self.uki = "compare"
        self.failure = "reboot"  # what PID 1 does after a failure
        self.failure_delay = 10  # seconds before that
        self.root_wait = 30  # seconds for the root device to appear
        self.canary = "first-object"  # the rule that chooses the file read before hand-over
        self.sysroot_readonly = True  # /sysroot of the new root

    def values(self) -> dict[str, str | int]:
        """By key, for messages and the status record; booleans are True and False."""
        return {key: getattr(self, key.replace("-", "_")) for key in KEYS}


def parse(data: bytes, where: str) -> Config:
    """Strict; keys that are not there keep their defaults. UsageError("config", where, …)."""
    config = Config()
    seen: set[str] = set()
    for key, text in keylines.pairs(data, _FIRST, UsageError, "config", where):
        if key not in KEYS:
            raise UsageError("config", where, f"unknown key {key[:80]!r}")
        if key in seen:
            raise UsageError("config", where, f"{key} is there twice")
        seen.add(key)
        setattr(config, key.replace("-", "_"), _value(key, text, where))
    return config


def load(path: str = PATH) -> Config:
    """The defaults where there is no such file; an empty one is an error."""
    try:
        data = files.read(path, MAX)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Config()
        raise SystemFailure("config", path, os_error(error)) from None
    return parse(data, path)


def format(config: Config) -> bytes:
    """All keys with their values; parse() gives the same values or raises what is wrong."""
    lines = [_FIRST]
    for key, value in config.values().items():
        text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
        lines.append(f"{key}={text}")
    return "".join(line + "\n" for line in lines).encode("ascii")


def _value(key: str, text: str, where: str) -> str | int:
    if key in _CHOICES:
        if text in _CHOICES[key]:
            return text
        expected = " or ".join(_CHOICES[key])
    elif key in _BOOLEANS:
        if text in _YES_NO:
            return _YES_NO[text]
        expected = "yes or no"
    elif key in _SECONDS:
        # str(int()) refuses signs, underscores and leading zeros; the length bounds the work.
        if len(text) <= 4 and text.isdigit() and str(int(text)) == text:
            number = int(text)
            if number <= SECONDS_MAX:
                return number
        expected = f"seconds, 0 to {SECONDS_MAX}"
    else:
        parts = text.split("/")
        if text == "/" or (parts[0] == "" and not {"", ".", ".."} & set(parts[1:]) and parts[1:]):
            return text
        expected = "an absolute path without empty, . and .. components"
    raise UsageError("config", where, f"{key}={text[:160]!r}", expected)
