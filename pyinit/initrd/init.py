# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`init`: PID 1 of an initrd without systemd. boot() is the whole way, from nothing to the init
of the sealed root."""

import _cfs
import errno
import posix

from pyinit.initrd import (
    cmdline,
    config,
    ending,
    mountinfo,
    mounting,
    output,
    report,
    setup_root,
)
from pyinit.initrd.cmdline import CommandLine
from pyinit.initrd.config import Config
from pyinit.initrd.errors import EXIT_USAGE, CfsError, Refused, Step, os_error
from pyinit.initrd.modules import Modules

_NAME = "init"
_SYSROOT = "/sysroot"
_SHELL = "/bin/sh"

# (where, type, options, attributes); /run is where the status record and systemd's state lie
_SECURE = mounting.NOSUID | mounting.NODEV
_MOUNTS: tuple[tuple[str, str, list[tuple[str, str | None]], int], ...] = (
    ("/proc", "proc", [], _SECURE | mounting.NOEXEC),
    ("/sys", "sysfs", [], _SECURE | mounting.NOEXEC),
    ("/dev", "devtmpfs", [("mode", "0755")], mounting.NOSUID),
    ("/run", "tmpfs", [("mode", "0755")], _SECURE),
)


def main(_arguments: list[str]) -> int:
    """Does not return from PID 1 unless the kernel refuses to end the machine."""
    if posix.getpid() != 1:
        output.err(f"{_NAME}: error: usage: this is PID 1 of an initrd and nothing else\n")
        return EXIT_USAGE
    settings = Config()  # what to do after a failure, until the configuration is read
    try:
        mount_kernel_interfaces()
        settings = config.load()
        boot(settings)
    except BaseException as error:
        tell(error)
    return give_up(settings)


class Told(Exception):
    """A failure that the child process has told already."""


def tell(error: BaseException) -> None:
    """On the console and in the kernel's log."""
    if isinstance(error, Told):
        return
    if isinstance(error, CfsError):
        output.err(f"{_NAME}: {error}\n")
        report.log_lines([str(error)])
    else:
        report.report(error, boot=True)


def boot(settings: Config) -> None:
    """Never returns: CfsError, or the new root's init in our place."""
    with Step("source", "/proc/cmdline"):
        line = cmdline.load()
    with Step("store", "kernel modules"):
        modules = Modules()
        modules.coldplug()
        load_modules(modules)
    _make_directory(_SYSROOT)
    moved = tuple(where.removeprefix("/") for where, *_ in _MOUNTS)
    compose_in_child(settings, line, moved, modules)
    switch_root(settings, line)


def compose_in_child(
    settings: Config, line: CommandLine, moved: tuple[str, ...], modules: Modules
) -> None:
    """The composed root at /sysroot, made by a child process from the disk that `root=` names.

    Composing enters a mount namespace of its own, and unshare(CLONE_NEWNS) gives the caller a root
    directory of its own too. PID 1 shares its with the kernel's threads: had it parted from them,
    they would not follow switch_root() and go on looking for /sbin/modprobe in the initramfs.
    """
    with Step("attach", _SYSROOT, "a process to compose it in"):
        child = posix.fork()
    if child == 0:
        try:
            root = line.first("root") or ""
            record = setup_root.setup(settings, line, _SYSROOT, moved, modules=modules, root=root)
            setup_root.announce(_NAME, record, settings)
        except BaseException as error:
            tell(error)
            posix._exit(1)  # noqa: SLF001
        posix._exit(0)  # noqa: SLF001
    _, status = posix.waitpid(child, 0)
    if posix.WIFSIGNALED(status):
        found = f"killed by signal {posix.WTERMSIG(status)}"
        raise Refused("attach", _SYSROOT, found, "a composed root")
    if status != 0:
        raise Told


def mount_kernel_interfaces() -> None:
    """/proc, /sys, /dev and /run, where they are not yet."""
    for where, fstype, options, attributes in _MOUNTS:
        _make_directory(where)
        with Step("state", where):
            if posix.stat(where).st_dev != posix.stat("/").st_dev:
                continue
        try:
            mount = _cfs.fs_mount(fstype, [("source", fstype), *options], attributes)
            _cfs.mount_attach(mount, mounting.open_directory(where))
        except OSError as error:
            raise mounting.mount_refused(fstype, where, error) from None


def load_modules(modules: Modules) -> None:
    """Those that the mounts will need: the kernel finds no modprobe here to call by itself."""
    modules.load_filesystem("erofs", "erofs")
    modules.load_filesystem("overlay", "overlay")
    try:
        modules.load("loop", "erofs")
    except Refused:
        pass  # needed by kernels before 6.12 only, and the mount says then that it is missing


def switch_root(settings: Config, line: CommandLine) -> None:
    """Moves the kernel interfaces over, makes the composed root `/`, executes its init.

    The initramfs is emptied last. A failure once the root is another one ends in no shell: that
    at its path would be the image's, not the initrd's.
    """
    with Step("switch-root", _SYSROOT):
        if mountinfo.read()[0].fstype != "rootfs" or not _cfs.root_is_initramfs():
            found = "not the initramfs that the kernel unpacked"
            raise Refused("switch-root", "/", found, "rootfs")
        program = line.first("init") or "/sbin/init"
        old_root = posix.open("/", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        for where, *_ in _MOUNTS:
            _cfs.mount_move(where, _SYSROOT + where)
        _cfs.switch_root(_SYSROOT)
        if settings.failure == "shell":
            settings.failure = "reboot"
    check_program(program)
    try:
        _cfs.initramfs_empty(old_root)
    except OSError as error:
        # Memory that is not freed; nothing depends on it.
        output.err(f"{_NAME}: warning: initramfs not emptied: {os_error(error)}\n")
    try:
        posix.execv(program, [program, *line.init_args])
    except OSError as error:
        raise Refused("switch-root", program, os_error(error), "a program to execute") from None


def check_program(path: str) -> None:
    """Of the sealed root itself: what lies in /etc, /var or /sysroot, which `init=` may name, is
    nobody's promise. Refused("switch-root")."""
    with Step("switch-root", path):
        try:
            program = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        except FileNotFoundError:
            raise Refused("switch-root", path, "missing in the image") from None
        root = posix.open("/", posix.O_PATH | posix.O_CLOEXEC)
        if mountinfo.mount_id(program) != mountinfo.mount_id(root):
            raise Refused("switch-root", path, "not on the sealed root", "a program of the image")
        if not posix.access(path, posix.X_OK):
            raise Refused("switch-root", path, "not executable", "a program of the image")


def give_up(settings: Config) -> int:
    """The configured end. A shell only where the initrd was built with one."""
    if ending.wants_shell(settings):
        try:
            output.err(f"{_NAME}: {_SHELL}, since the configuration says so\n")
            posix.execv(_SHELL, [_SHELL])
        except OSError as error:
            output.err(f"{_NAME}: {_SHELL}: {os_error(error)}\n")
    ending.end(_NAME, settings)
    return 1  # the kernel panics, and says so


def _make_directory(path: str) -> None:
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise Refused("switch-root", path, os_error(error), "a directory") from None
