# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A virtual machine with the programs of this machine: QEMU, a kernel and one initrd.

The initrd has programs with their libraries, Python with the modules that a command imports, and
drivers of the tree that the kernel comes from. Nothing is installed in the disk that the machine
gets, and neither root nor fs-verity nor loop devices are needed here.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.initrd.machine.modules import order, parse_dep
from pyinit.initrd.report.errors import SystemFailure

# Administrators' programs are not in everybody's PATH.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# By machine: the options of QEMU, and the name of the console.
_MACHINES = {
    "x86_64": (["-machine", "q35"], "ttyS0"),
    "aarch64": (["-machine", "virt"], "ttyAMA0"),
}
_KVM = "/dev/kvm"
_STANDS_STILL = "KVM internal error"  # QEMU's words when it stops the machine for ever
_MEMORY_MIB = 1024
_PATIENCE_SECONDS = 60
# no_timer_check: a busy host is late with the timer that the kernel waits for when it starts.
_COMMAND_LINE = "quiet loglevel=1 panic=-1 no_timer_check"
_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp")
# What `init` calls. It ends by the kernel itself, since there is no service manager to ask.
_INIT_PROGRAMS = ("cat", "mount", "sh", "sleep")
_INIT = """#!/bin/sh
export PATH=/usr/bin LC_ALL=C.UTF-8
mount -t devtmpfs dev /dev && exec </dev/null >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
PYTHONHOME=/python PYTHONPATH=/python python3 -S /drivers.py
n=0
while ! [ -e /dev/vda ] && [ "$n" -lt 30 ]; do
	sleep 1
	n=$((n + 1))
done
# No terminal: what is written there is for people, with bars that move.
{ sh /command; printf '%s\\n' "{mark}$?"; } 2>&1 | cat
sleep 1 # the last line is on its way
printf b >/proc/sysrq-trigger
sleep 600
"""
_MARK = "guest: exit "
# Loaded by its name when the interpreter starts.
_ENCODINGS = ("encodings.ascii", "encodings.latin_1", "encodings.utf_8")
_PYTHON = "python"
INDEX = "modules.dep"
_MODULES = "pyinit.initrd.machine.modules"


@dataclass(frozen=True)
class Kernel:
    """`modules` is the directory with modules.dep."""

    file: Path
    version: str
    modules: Path


def find_kernel(tree: Path) -> Kernel:
    """The newest kernel of a Linux root, with its modules. SystemFailure: there is none."""
    found = [
        Kernel(file, version, modules)
        for file in tree.glob("boot/vmlinuz-*")
        for version in [file.name.removeprefix("vmlinuz-")]
        for modules in [tree / "lib/modules" / version]
        if (modules / INDEX).exists()
    ]
    if not found:
        expected = "vmlinuz-VERSION, lib/modules/VERSION"
        raise SystemFailure("source", str(tree / "boot"), "no kernel with modules", expected)
    return max(found, key=lambda kernel: [*map(int, re.findall(r"\d+", kernel.version))])


def initrd(
    kernel: Kernel,
    script: str,
    *,
    files: Iterable[Path],
    programs: Iterable[str],
    commands: Iterable[str],
    drivers: Iterable[str],
) -> bytes:
    """An initrd that runs `script` by sh, tells its exit status, and ends the machine.

    `files` are copied to /usr/bin. So are `programs`, by their names, with libraries. `commands`
    of this package are run by Python. `drivers` are loaded before, those that the tree has.
    SystemFailure: something of this is not there.
    """
    entries: dict[str, Entry] = {}
    for name in _DIRECTORIES:
        entries[name] = Entry(name, stat.S_IFDIR | 0o755)
    entries["init"] = _file("init", _INIT.replace("{mark}", _MARK).encode())
    entries["command"] = _file("command", script.encode())
    for path in files:
        name = f"usr/bin/{path.name}"
        entries[name] = _file(name, path.read_bytes())
    binaries = {name: _which(name) for name in {*_INIT_PROGRAMS, *programs}}
    binaries["python3"] = Path(sys.executable).resolve()
    for name, path in binaries.items():
        entries[f"usr/bin/{name}"] = _file(f"usr/bin/{name}", path.read_bytes())
    modules, extensions = _python(commands)
    for entry in (*modules, *_commands(commands), *_drivers(kernel, drivers)):
        entries[entry.name] = entry
    for path in _libraries([*binaries.values(), *extensions]):
        name = str(path).lstrip("/")
        entries[name] = _file(name, path.read_bytes())
    # The kernel starts the first one by the name that init has in its first line.
    entries["bin/sh"] = _file("bin/sh", entries["usr/bin/sh"].data)
    return write_cpio(entries.values())


def run(kernel: Kernel, archive: Path, disk: Path, tell: Callable[[str], None]) -> int:
    """Starts the machine with `disk` as /dev/vda, which it may change. `tell` gets its lines.

    The exit status of the script. SystemFailure: the machine ended without one.
    """
    name = platform.machine()
    if name not in _MACHINES:
        raise SystemFailure("source", name, "no virtual machine for it", " or ".join(_MACHINES))
    options, console = _MACHINES[name]
    sectors = "logical_block_size={0},physical_block_size={0}".format(sector_size(disk))
    command = [
        str(_which(f"qemu-system-{name}")), *options, "-cpu", "max", "-m", str(_MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", str(kernel.file), "-initrd", str(archive),
        "-append", f"console={console} {_COMMAND_LINE}",
        "-drive", f"if=none,id=disk,format=raw,file={str(disk).replace(',', ',,')}",
        "-device", f"virtio-blk-pci,drive=disk,{sectors}",
    ]  # fmt: skip
    # A machine may have /dev/kvm, and no use of it: inside of another virtual machine.
    for accelerator in ("kvm", "tcg") if os.access(_KVM, os.R_OK | os.W_OK) else ("tcg",):
        status = _run([*command, "-accel", accelerator], tell)
        if status is not None:
            return status
    raise SystemFailure(
        "source", str(kernel.file), "the virtual machine ended too early", "an exit status"
    )


def _run(command: list[str], tell: Callable[[str], None]) -> int | None:
    """The exit status of the script. None: QEMU ended without one, or stands still."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    ) as machine:  # fmt: skip
        assert machine.stdout is not None
        for line in machine.stdout:
            text = line.rstrip("\r\n")
            if found := re.fullmatch(rf"{_MARK}(\d+)", text):
                _end(machine)
                return int(found[1])
            tell(text)
            if text.startswith(_STANDS_STILL):
                machine.kill()
                break
    return None


def _end(machine: subprocess.Popen[str]) -> None:
    """Nothing of the disk is open in it any more."""
    try:
        machine.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        machine.kill()


def sector_size(disk: Path) -> int:
    """Where the partition table of a disk image says that it is: 512 or 4096 bytes."""
    with disk.open("rb") as file:
        start = file.read(4096 + 8)
    return 4096 if start[4096:] == b"EFI PART" and start[512:520] != b"EFI PART" else 512


def _file(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, data)


def _which(name: str) -> Path:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise SystemFailure("source", name, "not in PATH", "this program")
    return Path(found)


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """What ldd says that they load, and where it looks."""
    found = {Path("/etc/ld.so.cache")} if Path("/etc/ld.so.cache").exists() else set()
    for path in binaries:
        # A static one has none; ldd exits with 1.
        listed = subprocess.run(
            [_which("ldd"), path], capture_output=True, text=True, timeout=600, check=False
        ).stdout
        found |= {Path(name) for name in re.findall(r"(/\S+) \(0x", listed)}
    return found


class _Finder(ModuleFinder):
    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        """As ever. A directory that is no module may have the name of one that is not there."""
        try:
            return super().find_module(name, path, parent)
        except AttributeError:
            raise ImportError(name) from None


def _python(commands: Iterable[str]) -> tuple[list[Entry], list[Path]]:
    """All that the commands import, also later, compiled; and the extension modules among it."""
    finder = _Finder(excludes=["tqdm"])
    for name in ("os", *_ENCODINGS, _MODULES, *map(_module, commands)):
        finder.import_hook(name)
    entries, extensions = [], []
    found: dict[str, Any] = finder.modules  # of modulefinder's own class
    for name, module in found.items():
        place = f"{_PYTHON}/{name.replace('.', '/')}"
        code, file = module.__code__, module.__file__
        if code is not None:
            place += "/__init__.pyc" if module.__path__ else ".pyc"
            # Of no source file: without a check, and with no hash of one.
            header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
            entries.append(_file(place, header + marshal.dumps(code)))
        elif file is not None:
            path = Path(file)
            extensions.append(path)
            entries.append(_file(f"{place.rpartition('/')[0]}/{path.name}", path.read_bytes()))
    return entries, extensions


def _module(command: str) -> str:
    return f"pyinit.host.commands.{command.replace('-', '_')}"


def _commands(commands: Iterable[str]) -> Iterator[Entry]:
    for command in commands:
        code = f"import sys; from {_module(command)} import main; sys.exit(main())"
        text = (
            f"#!/bin/sh\nexport PYTHONHOME=/{_PYTHON} PYTHONPATH=/{_PYTHON}\n"
            f"exec /usr/bin/python3 -S -c '{code}' \"$@\"\n"
        )
        yield _file(f"usr/bin/{command}", text.encode())


def _drivers(kernel: Kernel, names: Iterable[str]) -> Iterator[Entry]:
    """Those that the tree has, with what they need, and the program that loads them."""
    modules = kernel.modules
    needs = parse_dep((modules / INDEX).read_bytes())
    there = [name for name in names if name in needs]
    for name in order(there, lambda name: needs[name][1]):
        yield _module_file(kernel, needs[name][0])
    yield _module_file(kernel, INDEX)
    text = (
        f"from {_MODULES} import Modules\n"
        f"modules = Modules()\nfor name in {there!r}:\n    modules.load(name)\n"
    )
    yield _file("drivers.py", text.encode())


def _module_file(kernel: Kernel, name: str) -> Entry:
    data = (kernel.modules / name).read_bytes()
    return _file(f"lib/modules/{kernel.version}/{name}", data)
