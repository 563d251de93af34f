# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which program this is: one executable answers to several names.

The name is the last part of argv[0] (a symbolic link, or `/init`), else the first argument:
`cfs-init cfs-mount ...`. As PID 1 a name that says nothing means `init`.
"""

import posix
import sys

import pyinit
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_OK, EXIT_SYSTEM, EXIT_USAGE, printable

NAMES = ("cfs-mount", "mount.cfs", "cfs-setup-root", "init")

_PID_1 = 1


def main(argv: list[str]) -> int:
    """Runs the program that `argv` names; gives its exit code."""
    name, args = split(argv)
    if name not in NAMES and posix.getpid() == _PID_1:
        name = "init"
    try:
        if args == ["--version"]:
            output.out(f"{name} {pyinit.VERSION}\n")
            return EXIT_OK
        if args == ["help"] and posix.getpid() != _PID_1:
            # PID 1 gets the words of the kernel's command line that the kernel does not know.
            args = ["--help"]
        return _run(name, args)
    except output.StdoutError as error:
        output.error(f"{printable(name)}: {error}\n")
        return EXIT_SYSTEM


def split(argv: list[str]) -> tuple[str, list[str]]:
    """(name, arguments); the name as given where it is none of NAMES, the arguments unchanged."""
    name = argv[0].rpartition("/")[2] if argv else ""
    if name not in NAMES and len(argv) > 1 and argv[1] in NAMES:
        return argv[1], argv[2:]
    return name, argv[1:]


def _run(name: str, args: list[str]) -> int:
    # Imported here: each name pays for its own modules only.
    if name in {"cfs-mount", "mount.cfs"}:
        from pyinit.initrd.programs import mount_command

        return mount_command.main(name, args)
    if name == "cfs-setup-root":
        from pyinit.initrd.programs import setup_root

        return setup_root.main(args)
    if name == "init":
        from pyinit.initrd.programs import init

        return init.main(args)
    usage = f"usage: cfs-init {{{','.join(NAMES)}}} ...\n"
    if args in (["-h"], ["--help"]):
        output.out(usage)
        return EXIT_OK
    output.error(usage)
    return EXIT_USAGE


def console_script() -> int:
    """The entry of the commands that `pip install` makes: the exit codes of the executable."""
    try:
        return main(sys.argv)
    except Exception as error:
        from pyinit.initrd.report import traceback

        return traceback.report(error)
