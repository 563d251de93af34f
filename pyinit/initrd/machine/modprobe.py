# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What modprobe(8) would be told of modules: by modprobe.d(5) of the initrd, and by the kernel
command line, whose words come last and so win.

`options`, `blacklist`, `softdep` and `install` are obeyed; the last one by loading no such module,
since no command is run here, and it often says just that (/bin/false). Other words are left alone.
"""

import posix

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import Refused, failure

# Of two files of one name the first counts, as for modprobe. Nobody has written /run yet.
DIRECTORIES = ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
MAX = 1 << 20
"""Bytes of one file."""
ARGUMENTS_MAX = 4096
"""Bytes of the parameters of one module."""


class Rules:
    """By modules' names, with `_` for `-`."""

    __slots__ = ("blacklist", "installs", "options", "softdeps")

    def __init__(self) -> None:
        self.options: dict[str, list[bytes]] = {}
        self.blacklist: set[str] = set()  # not loaded for a device
        self.installs: set[str] = set()  # not loaded at all
        # What to load before and after it, where it is there.
        self.softdeps: dict[str, tuple[list[str], list[str]]] = {}

    def read(self, data: bytes) -> None:
        """Adds what a file says."""
        for raw in data.replace(b"\\\n", b"").split(b"\n"):
            words = raw.split(None, 2)
            if len(words) < 2 or b"\0" in raw:
                continue
            name = _name(words[1])
            if words[0] == b"blacklist":
                self.blacklist.add(name)
            elif len(words) == 3 and words[0] == b"options":
                self.options.setdefault(name, []).append(words[2].rstrip())
            elif len(words) == 3 and words[0] == b"install":
                self.installs.add(name)
            elif len(words) == 3 and words[0] == b"softdep":
                self._softdep(name, words[2].split())

    def _softdep(self, name: str, words: list[bytes]) -> None:
        before, after = self.softdeps.setdefault(name, ([], []))
        where: list[str] = []  # until `pre:` or `post:`, nowhere
        for word in words:
            if word == b"pre:":
                where = before
            elif word == b"post:":
                where = after
            else:
                where.append(word.decode("latin-1"))

    def command_line(
        self, blacklists: list[str | None], parameters: list[tuple[str, bytes]]
    ) -> None:
        """Adds values of modprobe.blacklist=, and parameters, each with its module."""
        for value in blacklists:
            self.blacklist.update(filter(None, (value or "").replace("-", "_").split(",")))
        for module, parameter in parameters:
            self.options.setdefault(module, []).append(parameter)

    def arguments(self, name: str, step: str) -> bytes:
        """All parameters of a module. Refused(step): more than ARGUMENTS_MAX."""
        data = b" ".join(self.options.get(name, []))
        if len(data) > ARGUMENTS_MAX:
            found = f"{len(data)} bytes of parameters"
            raise Refused(step, f"kernel module {name}", found, f"at most {ARGUMENTS_MAX}")
        return data


def load(blacklists: list[str | None], parameters: list[tuple[str, bytes]]) -> Rules:
    """Of this initrd and the command line. CfsError("store"): a file that cannot be read."""
    rules = Rules()
    for path in _paths():
        try:
            rules.read(files.read(path, MAX))
        except OSError as error:
            raise failure("store", path, error) from None
    rules.command_line(blacklists, parameters)
    return rules


def _paths() -> list[str]:
    """In the order of their names, whatever directory they are in."""
    found: dict[str, str] = {}
    for directory in DIRECTORIES:
        try:
            names = posix.listdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise failure("store", directory, error) from None
        for name in names:
            if name.endswith(".conf"):
                found.setdefault(name, f"{directory}/{name}")
    return [found[name] for name in sorted(found)]


def _name(word: bytes) -> str:
    return word.decode("latin-1").replace("-", "_")
