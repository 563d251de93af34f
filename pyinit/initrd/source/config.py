# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the base initrd decides about the boot: a compiled file, made from the user's TOML.

First line `cfsconf1`, then `key=value` lines (keylines.py), each key at most once. It is the only
place that can allow a weaker digest source: never the command line, credentials or EFI variables.
"""

import errno

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import SystemFailure, UsageError, os_error
from pyinit.initrd.source import keylines

PATH = "/usr/lib/composefs/setup-root.conf"
MAX = 16384

FIRST = "cfsconf1"
_YES_NO = {"yes": True, "no": False}
_CHOICES = {
    "profile": ("none", "bootc"),
    "uki": ("compare", "require", "off"),
    "failure": ("reboot", "poweroff", "shell"),
    "digest-source": ("carried", "cmdline", "any", "uki", "first-initrd"),
    "root": ("sealed", "transient", "transient-ro"),
    "etc": ("none", "bind", "overlay", "transient"),
    "var": ("none", "bind", "overlay", "transient", "transient-disk"),
    "state-missing": ("create", "refuse"),
    "extensions-missing": ("refuse", "skip"),
    # Those below 8 are the firmware's. Of the others from 16 on some can be reset: no proof.
    "measure-pcr": ("none", "8", "9", "10", "11", "12", "13", "14", "15"),
}
_BOOLEANS = ("root-discover", "sysroot-readonly", "volatile-root-link", "measure-required")
_NUMBERS = {  # key: (what it counts, the largest)
    "failure-delay": ("seconds", 3600),
    "root-wait": ("seconds", 3600),
    "state-grow": ("bytes", 1 << 62),
}
_SIZES = ("root-size", "etc-size", "var-size", "initrd-size")
_PATHS = ("store", "state-etc", "state-var")
_MAY_BE_EMPTY = ("initrd-device", "initrd-store", "measure-nvpcr")
_PATH_EXPECTED = "an absolute path without empty, . and .. components"
# The key is the attribute with "-" for "_".
KEYS = (*_PATHS, *_CHOICES, *_BOOLEANS, *_NUMBERS, *_SIZES, *_MAY_BE_EMPTY)

DIGEST = "{digest}"
"""Stands in state-etc and state-var for the hex digits of the image's digest."""


class Config:
    """Typed values; without arguments, the defaults."""

    __slots__ = tuple(key.replace("-", "_") for key in KEYS)

    def __init__(self) -> None:
        # Whose disk it is. bootc: /var by its link, candidates from the UKI's own command line, its
        # source for a transient root. The defaults of a profile are compiled in, as other values.
        self.profile = "none"
        self.store = "/composefs"  # absolute path on the root file system
        # The source that may name the image. carried: the file in the initrd. cmdline: composefs=
        # or composefs.digest=. any: the file, and where there is none, the command line. uki: the
        # section of the UKI, proved by the TPM to be the one that was booted; `uki` is no matter.
        # first-initrd: this is a second initrd, and the first one hands over what it knows.
        self.digest_source = "carried"
        # compare: the UKI's section, where it can be read, must agree with the carried file;
        # require: and not being able to read it stops the boot.
        self.uki = "compare"
        self.failure = "reboot"  # what PID 1 does after a failure
        self.failure_delay = 10  # seconds before that
        self.root_wait = 30  # seconds for the root device to appear
        self.root_discover = False  # without root=: by its type, on the disk that was booted from
        self.sysroot_readonly = True  # /sysroot of the new root
        self.volatile_root_link = False  # tells systemd the root's disk: volatile_root.py
        # sealed: read-only. transient: writable, in memory. transient-ro: the same, mounted
        # read-only, for who remounts it.
        self.root = "sealed"
        # none: the image's. bind: a copy on the disk in its place. overlay: changes on the disk.
        # transient: changes in memory (/var: begins empty). transient-disk: the same on the disk.
        self.etc = "transient"
        self.var = "transient"
        self.root_size = "50%"  # of what is in memory: bytes, or a part of the memory
        self.etc_size = "50%"
        self.var_size = "50%"
        self.state_etc = "/state/deploy/{digest}/etc"  # on the root file system
        self.state_var = "/state/deploy/{digest}/var"
        self.state_missing = "create"  # what becomes of state that is not there
        self.extensions_missing = "refuse"  # what becomes of the boot where one is not there
        self.measure_pcr = "none"  # the PCR of the TPM that the root is measured into
        self.measure_required = False  # and no boot where that cannot be done
        self.measure_nvpcr = ""  # the name of systemd's NvPCR that it is measured into
        # Where the second initrd lies, whose digest the UKI names: what root= names, and `store`.
        self.initrd_device = ""
        self.initrd_store = ""
        self.initrd_size = "50%"  # of what is written in it, in memory
        self.state_grow = 0  # bytes that an image file with state shall have at least

    @property
    def stacked(self) -> bool:
        """Will an overlay lie above the composed root?"""
        return "overlay" in (self.etc, self.var)

    def values(self) -> dict[str, str | int]:
        """By key, for messages and the status record; booleans are True and False."""
        return {key: getattr(self, key.replace("-", "_")) for key in KEYS}


def parse(data: bytes, where: str) -> Config:
    """Strict; keys that are not there keep their defaults. UsageError("config", where, …)."""
    config = Config()
    seen: set[str] = set()
    for key, text in keylines.pairs(data, FIRST, UsageError, "config", where):
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
    lines = [FIRST]
    for key, value in config.values().items():
        text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
        lines.append(f"{key}={text}")
    return "".join(line + "\n" for line in lines).encode("ascii")


def _value(key: str, text: str, where: str) -> str | int:
    if key in _BOOLEANS and text in _YES_NO:
        return _YES_NO[text]
    if key in _NUMBERS and _is_number(text, _NUMBERS[key][1]):
        return int(text)
    if _is_text(key, text):
        return text
    raise UsageError("config", where, f"{key}={text[:160]!r}", _expected(key))


def _is_text(key: str, text: str) -> bool:
    if key in _CHOICES:
        return text in _CHOICES[key]
    if key in _SIZES:
        return _is_size(text)
    if key in _MAY_BE_EMPTY and (not text or key == "initrd-device"):
        return True
    if key == "measure-nvpcr":
        return _is_name(text)
    return key in (*_PATHS, "initrd-store") and _is_path(text, key.startswith("state-"))


def _expected(key: str) -> str:
    if key in _CHOICES:
        return " or ".join(_CHOICES[key])
    if key in _BOOLEANS:
        return "yes or no"
    if key in _NUMBERS:
        unit, most = _NUMBERS[key]
        return f"{unit}, 0 to {most}"
    if key in _SIZES:
        return "bytes, or 1% to 100% of the memory"
    if key == "measure-nvpcr":
        return "the name of an NvPCR, or nothing"
    return f"{_PATH_EXPECTED}, {DIGEST} allowed" if key.startswith("state-") else _PATH_EXPECTED


def _is_number(text: str, most: int) -> bool:
    # str(int()) refuses signs, underscores and leading zeros; the length bounds the work.
    return 0 < len(text) < 20 and text.isdigit() and str(int(text)) == text and int(text) <= most


def _is_size(text: str) -> bool:
    most = 100 if text.endswith("%") else 1 << 62
    return _is_number(text.removesuffix("%"), most) and text[0] != "0"


def _is_name(text: str) -> bool:
    # systemd makes a file name of it, and takes a number for that of a PCR.
    rest = text.replace("-", "").replace("_", "")
    return len(text) < 65 and rest.isascii() and rest.isalnum() and text[0].isalpha()


def _is_path(text: str, template: bool) -> bool:
    if template:
        text = text.replace(DIGEST, "d")
    parts = text.split("/")
    if template and ({"{", "}"} & set(text) or text == "/"):
        return False
    return text == "/" or (not parts[0] and len(parts) > 1 and not {"", ".", ".."} & set(parts[1:]))
