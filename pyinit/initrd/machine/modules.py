# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Kernel modules without modprobe: which are needed, in which order, and loading them.

Formats: modules.dep(5), and modules.alias, modules.softdep, modules.builtin as depmod(8) writes
them; modprobe.py has what else is said of modules. A kernel that asks for a module by itself
(request_module()) finds no modprobe in such an initrd: whatever a mount will need has to be loaded
before it.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import files
from pyinit.initrd.machine import modalias
from pyinit.initrd.machine.modprobe import Rules
from pyinit.initrd.report.errors import Refused, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ROOTS = ("/usr/lib/modules", "/lib/modules")
SYS = "/sys"
FILESYSTEMS = "/proc/filesystems"
MAX = 32 << 20
"""Bytes of one index file; a full kernel's modules.alias has about 2 MB."""

_TOLD, _TOLD_CHARACTERS = 6, 400  # of what did not load, on a serial console

_SUFFIXES = {".ko": False, ".ko.xz": True, ".ko.zst": True, ".ko.gz": True}


def name_of(path: str) -> str:
    """The name of the module in that file: no directory, no suffix, `_` for `-`."""
    return path[path.rfind("/") + 1 :].partition(".")[0].replace("-", "_")


def parse_dep(data: bytes) -> dict[str, tuple[str, list[str]]]:
    """By name: the file, and the names that it needs; the last is to be loaded first."""
    result = {}
    for line in _lines(data):
        path, colon, needs = line.partition(":")
        if colon:
            result[name_of(path)] = (path, [name_of(need) for need in needs.split()])
    return result


def parse_alias(data: bytes) -> list[tuple[str, str, str]]:
    """(literal prefix, pattern, module), normalized."""
    result = []
    for line in _lines(data):
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            pattern = modalias.normal(words[1])
            result.append((modalias.prefix(pattern), pattern, words[2].replace("-", "_")))
    return result


def order(names: list[str], needs: "Callable[[str], list[str]]", strict: bool = True) -> list[str]:
    """These and all that they need, each once, what is needed first.

    A circle is a ValueError, or, where not `strict`, opened where it would close.
    """
    result: list[str] = []
    done: set[str] = set()
    open_: set[str] = set()
    # A stack instead of recursion: the depth is the input's. (name, True): its needs are done.
    stack = [(name, False) for name in reversed(names)]
    while stack:
        name, ready = stack.pop()
        if name in done:
            continue
        if ready:
            open_.discard(name)
            done.add(name)
            result.append(name)
        elif name in open_:
            if strict:
                raise ValueError(f"module {name} needs itself")
        else:
            open_.add(name)
            stack.append((name, True))
            # The last listed is popped, and so loaded, first.
            stack.extend((need, False) for need in needs(name) if need not in done)
    return result


class Modules:
    """The modules of one kernel. Index files are read when first needed; none need be there."""

    def __init__(self, root: str | None = None, rules: Rules | None = None) -> None:
        """`root`: the directory with modules.dep; else that of the running kernel."""
        release = posix.uname().release
        choices = [root] if root else [f"{base}/{release}" for base in ROOTS]
        self.root = choices[0]
        for choice in choices:
            if _exists(f"{choice}/modules.dep"):
                self.root = choice
                break
        self.loaded: set[str] = set()
        # The modules that did not load, each with its error. Perhaps no device needs them: see
        # not_loaded().
        self.failed: dict[str, str] = {}
        self._dep = parse_dep(self._index("modules.dep"))
        self._rules = rules or Rules()
        self._rules.read(self._index("modules.softdep"))
        self._alias: list[tuple[str, str, str]] | None = None
        self._builtin: set[str] | None = None
        self._seen: set[str] = set()

    def load(self, name: str, step: str = "store") -> None:
        """A module with all that it needs, by name or alias; nothing to do where it is built in.

        Refused(step, …) where it is not there or the kernel does not take it.
        """
        wanted = name.replace("-", "_")
        if wanted in self._dep:
            self._load([wanted], step)
        elif found := self._allowed(modalias.normal(name)):
            self._load(found, step)
        elif not self._is_there(wanted):
            expected = f"a file in {self.root}/modules.dep, or built into the kernel"
            raise Refused(step, f"kernel module {name}", "not there", expected)

    def load_filesystem(self, kind: str, step: str = "store") -> None:
        """So that the kernel can mount it: load(), unless /proc/filesystems has it already."""
        lines = files.read(FILESYSTEMS, 65536).decode("ascii", "backslashreplace").split("\n")
        if kind not in [line.rpartition("\t")[2] for line in lines]:
            self.load(kind, step)

    def coldplug(self) -> int:
        """Loads what the devices that are there now ask for; how many modules that were.

        To be called again: a bus driver makes new devices appear. A module that does not load
        (its device may not be the wanted one) is noted in `failed`, and not tried again.
        """
        before = len(self.loaded)
        for text in _modaliases():
            if text not in self._seen:
                self._seen.add(text)
                for name in self._allowed(modalias.normal(text)):
                    try:
                        self._load([name], "store")
                    except Refused as error:
                        self.failed[name] = error.found
        return len(self.loaded) - before

    def not_loaded(self) -> str:
        """The text on `failed` for a message that a device is missing; empty if all have loaded."""
        if not self.failed:
            return ""
        # Many a driver says ENODEV of a machine that is not the one it is for: those last.
        items = sorted(self.failed.items(), key=lambda item: "(ENODEV)" in item[1])
        text = ", ".join(f"{name}: {found}" for name, found in items[:_TOLD])[:_TOLD_CHARACTERS]
        if len(items) > _TOLD:
            text += f", and {len(items) - _TOLD} more"
        return f"drivers that did not load: {text}"

    def _load(self, names: list[str], step: str) -> None:
        try:
            required = order(names, self._hard)
        except ValueError as error:
            raise Refused(step, f"{self.root}/modules.dep", str(error)) from None
        # Soft ones go round in some kernels.
        todo = order(names, self._needs, strict=False)
        for name in todo:
            after = order(self._soft(name, 1), self._needs, strict=False)
            todo += [other for other in after if other not in todo]
            try:
                self._insert(name, step)
            except Refused as error:
                if name in required:
                    raise
                self.failed[name] = error.found

    def _hard(self, name: str) -> list[str]:
        return self._dep[name][1] if name in self._dep else []

    def _needs(self, name: str) -> list[str]:
        return self._soft(name, 0) + self._hard(name)

    def _soft(self, name: str, which: int) -> list[str]:
        """What is to be loaded before it (0) or after it (1), where it is there."""
        soft: list[str] = []
        for need in self._rules.softdeps.get(name, ((), ()))[which]:
            soft += self._found(need)
        return soft

    def _found(self, need: str) -> list[str]:
        plain = need.replace("-", "_")
        return [plain] if plain in self._dep else self._matches(modalias.normal(need))

    def _lacks(self, name: str) -> str:
        """What to say where the kernel has the module's file and answers ENOENT: a symbol is not
        there, or something for which the module asks by another name, as an algorithm."""
        wanted = [need for need in self._hard(name) if need not in self._dep]
        before = self._rules.softdeps.get(name, ((), ()))[0]
        wanted += [need for need in before if not self._found(need)]
        absent = [need for need in wanted if not self._is_there(need.replace("-", "_"))]
        return f", as it seems {', '.join(absent)}" if absent else ""

    def _insert(self, name: str, step: str) -> None:
        if name in self.loaded or name not in self._dep:
            return
        relative = self._dep[name][0]
        path = relative if relative.startswith("/") else f"{self.root}/{relative}"
        suffix = path[path.find(".", path.rfind("/")) :]
        if suffix not in _SUFFIXES:
            raise Refused(step, path, "unknown suffix", " or ".join(_SUFFIXES))
        if name in self._rules.installs:
            raise Refused(step, path, "modprobe.d has a command in its place, and none is run here")
        arguments = self._rules.arguments(name, step)
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                _cfs.module_load(fd, arguments, _SUFFIXES[suffix])
            finally:
                posix.close(fd)
        except OSError as error:
            if error.errno != errno.EEXIST:
                found = os_error(error)
                if error.errno == errno.EOPNOTSUPP and _SUFFIXES[suffix]:
                    found += f": this kernel cannot unpack {suffix}, the initrd must carry .ko"
                if error.errno == errno.ENOENT and _exists(path):
                    found += f": another module, which it needs, is missing{self._lacks(name)}"
                raise Refused(step, path, found) from None
        self.loaded.add(name)

    def _allowed(self, text: str) -> list[str]:
        """_matches() that are on no blacklist, which is for devices and aliases alone: what is
        asked for by its name, or needed by another, is loaded as modprobe would."""
        found = self._matches(text)
        for name in found:
            if name in self._rules.blacklist:
                self.failed[name] = "blacklisted"
        return [name for name in found if name not in self._rules.blacklist]

    def _matches(self, text: str) -> list[str]:
        """Modules whose alias stands for this (normalized) identity, in the order of the file."""
        if self._alias is None:
            self._alias = parse_alias(self._index("modules.alias"))
        found = []
        for start, pattern, name in self._alias:
            if text.startswith(start) and name not in found and modalias.match(pattern, text):
                found.append(name)
        return found

    def _is_there(self, name: str) -> bool:
        return self._is_builtin(name) or _exists(f"{SYS}/module/{name}")

    def _is_builtin(self, name: str) -> bool:
        if self._builtin is None:
            self._builtin = {name_of(path) for path in _lines(self._index("modules.builtin"))}
        return name in self._builtin

    def _index(self, file: str) -> bytes:
        try:
            return files.read(f"{self.root}/{file}", MAX)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise Refused("store", f"{self.root}/{file}", os_error(error)) from None


def _modaliases() -> list[str]:
    """Of the processors and of all devices on all buses, each once."""
    found: set[str] = set()
    # fs-verity keeps the driver of a hash that it finds first: the processor's own comes before any
    # disk is read.
    paths = [f"{SYS}/devices/system/cpu"]
    for bus in _list(f"{SYS}/bus"):
        devices = f"{SYS}/bus/{bus}/devices"
        paths += [f"{devices}/{device}" for device in _list(devices)]
    for path in paths:
        try:
            data = files.read(f"{path}/modalias", 8192)
        except OSError:
            continue  # it has none, or is gone again
        # CPU and DMI identities can be long; a driver for what does not fit is no loss.
        found.update(line for line in data.decode("latin-1").split("\n") if line)
    return sorted(found)


def _list(path: str) -> list[str]:
    try:
        return posix.listdir(path)
    except OSError:
        return []


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [line for line in lines if line and not line.startswith("#")]
