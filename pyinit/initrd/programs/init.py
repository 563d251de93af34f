# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`init`: PID 1 of an initrd without systemd. come_up() is the whole way, from nothing to the init
of the sealed root, or of a second initrd."""

import posix

from pyinit.initrd import boot
from pyinit.initrd.handover import announce, ending, switch_root
from pyinit.initrd.kernel import interfaces
from pyinit.initrd.machine import modprobe
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report import output, traceback
from pyinit.initrd.report.errors import (
    EXIT_USAGE,
    CfsError,
    Refused,
    Step,
    SystemFailure,
    os_error,
    printable,
)
from pyinit.initrd.source import cmdline, config
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config

_NAME = "init"
_SYSROOT = "/sysroot"
_SHELL = "/bin/sh"
_SECOND = "/init"  # the program of a second initrd, as the kernel has it of the first
_COMPOSED_SECOND = 3  # what the child process ends with then
_ONCE = ("root", "rootfstype", "rootflags", "init")
# What other initrds obey, and nobody does here: what they mount, unlock, verify, resume or stop at.
_OF_OTHERS = (
    *("mount.usr", "mount.usrfstype", "mount.usrflags", "nfsroot"),
    *("resume", "resumeflags", "cryptdevice", "cryptkey"),
    *("roothash", "usrhash", "systemd.verity", "systemd.volatile", "ostree"),
)
_OF_OTHERS_PREFIX = ("rd.", "luks.")
_TOLD = 400  # characters of them, on a serial console


def main(arguments: list[str]) -> int:
    """Does not return from PID 1 unless the kernel refuses to end the machine."""
    if posix.getpid() != 1:
        output.err(f"{_NAME}: error: usage: this is PID 1 of an initrd and nothing else\n")
        return EXIT_USAGE
    settings = Config()  # what to do after a failure, until the configuration is read
    try:
        interfaces.mount_all()
        settings = config.load()
        come_up(settings, arguments)
    except BaseException as error:
        try:
            tell(error)
        except BaseException:  # no memory for words: the machine ends as configured all the same
            pass
    return give_up(settings)


class Told(Exception):
    """A failure that the child process has told already."""


def tell(error: BaseException) -> None:
    """On the console and in the kernel's log: once where that is one device."""
    if isinstance(error, Told):
        return
    if isinstance(error, MemoryError):  # at any place; with musl each allocation may be a mmap()
        error = SystemFailure("attach", _SYSROOT, "out of memory")
    if isinstance(error, CfsError):
        if not (traceback.log_lines([str(error)]) and output.log_is_seen()):
            output.err(f"{_NAME}: {error}\n")
    else:
        traceback.report(error, boot=True)


def come_up(settings: Config, arguments: list[str]) -> None:
    """Never returns: CfsError, or the new root's init in our place."""
    with Step("source", "/proc/cmdline"):
        line = cmdline.load()
        warn_of_words(line)
    with Step("store", "kernel modules"):
        rules = modprobe.load(line.all("modprobe.blacklist"), line.of_modules())
        modules = Modules(rules=rules)
        modules.coldplug()
        load_modules(modules)
    interfaces.make_directory(_SYSROOT)
    moved = tuple(where.removeprefix("/") for where in interfaces.PLACES)
    second = compose_in_child(settings, line, moved, modules)
    program = _SECOND if second else line.first("init") or "/sbin/init"
    switch_root.switch(_NAME, _SYSROOT, settings, program, arguments)


def warn_of_words(line: CommandLine) -> None:
    """Those that do not mean what somebody may think.

    The kernel takes the last of several. Boot menus append, and the first is the UKI's own.
    """
    for name in _ONCE:
        first, *others = line.all(name) or [None]
        if any(value != first for value in others):
            text = f"{name}= is there more than once, the first counts: {first or 'empty'}"
            output.err(f"{_NAME}: warning: {printable(text)}\n")
    names = [name for name, _ in line.parameters]
    strange = [name for name in names if name in _OF_OTHERS or name.startswith(_OF_OTHERS_PREFIX)]
    if strange:
        text = " ".join(dict.fromkeys(strange))[:_TOLD]
        output.err(f"{_NAME}: warning: words for other initrds, not obeyed: {printable(text)}\n")


def compose_in_child(
    settings: Config, line: CommandLine, moved: tuple[str, ...], modules: Modules
) -> bool:
    """The composed root at /sysroot, made by a child process from the disk that `root=` names. Is
    it a second initrd?

    Composing enters a mount namespace of its own, and unshare(CLONE_NEWNS) gives the caller a root
    directory of its own too. PID 1 shares its with the kernel's threads: had it parted from them,
    they would not follow switch_root and go on looking for /sbin/modprobe in the initramfs.
    """
    with Step("attach", _SYSROOT, "a process to compose it in"):
        child = posix.fork()
    if child == 0:
        try:
            root = line.first("root") or ""
            record = boot.setup(
                settings, line, _SYSROOT, moved, modules=modules, root=root, can_start=True
            )
            if "root" not in record:
                text = f"second initrd is {record['image']} ({record['digest']})"
                output.err(f"{_NAME}: {text}\n")
                posix._exit(_COMPOSED_SECOND)  # noqa: SLF001
            announce.announce(_NAME, record, settings)
        except BaseException as error:
            try:
                tell(error)
            finally:  # not into the code of PID 1, whatever it raises
                posix._exit(1)  # noqa: SLF001
        posix._exit(0)  # noqa: SLF001
    _, status = posix.waitpid(child, 0)
    if posix.WIFSIGNALED(status):
        found = f"killed by signal {posix.WTERMSIG(status)}"
        raise Refused("attach", _SYSROOT, found, "a composed root")
    code = posix.WEXITSTATUS(status)
    if code not in (0, _COMPOSED_SECOND):
        raise Told
    return code == _COMPOSED_SECOND


def load_modules(modules: Modules) -> None:
    """Those that the mounts will need: the kernel finds no modprobe here to call by itself."""
    modules.load_filesystem("erofs", "erofs")
    modules.load_filesystem("overlay", "overlay")
    try:
        modules.load("loop", "erofs")
    except Refused:
        pass  # needed by kernels before 6.12 only, and the mount says then that it is missing


def give_up(settings: Config) -> int:
    """The configured end. A shell only where the initrd was built with one."""
    if ending.wants_shell(settings):
        try:
            output.last(f"{_NAME}: {_SHELL}, since the configuration says so\n")
            posix.execv(_SHELL, [_SHELL])
        except OSError as error:
            output.last(f"{_NAME}: {_SHELL}: {os_error(error)}\n")
    ending.end(_NAME, settings)
    return 1  # the kernel panics, and says so
