# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root`: the boot flow in initrds of others. With systemd it works over the /sysroot
that sysroot.mount has mounted, elsewhere (--root) from the disk that it mounts itself."""

import posix

from pyinit.initrd import boot
from pyinit.initrd.handover import announce, ending, status
from pyinit.initrd.kernel import files
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import (
    EXIT_OK,
    EXIT_SYSTEM,
    CfsError,
    Refused,
    Step,
    UsageError,
    os_error,
)
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import cmdline, config, decide, handed_over
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config

USAGE = """\
usage: cfs-setup-root [--root DISK | --soft-reboot DIGEST] [--sysroot DIR] [--config FILE]
       cfs-setup-root --give-up [--config FILE]

  --root DISK            mount this disk first (/dev/NAME, PARTUUID=, UUID=, LABEL=, PARTLABEL=)
  --sysroot DIR          where the root is attached (default: /sysroot)
  --config FILE          the compiled configuration
  --soft-reboot DIGEST   prepare another image of the same store, in a running system
  --give-up              after a refusal: what the configuration says
  -h, --help             this text
  --version              the version
"""
_OPTIONS = ("--root", "--sysroot", "--config", "--soft-reboot")
_GIVE_UP = "--give-up"
# The mounts that the switch of the root moves into the new root.
_MOVED = ("dev", "proc", "run", "sys")


def main(arguments: list[str]) -> int:
    """`cfs-setup-root`; the exit code."""
    name = "cfs-setup-root"
    if arguments in (["-h"], ["--help"]):
        output.out(USAGE)
        return EXIT_OK
    try:
        wanted = _parse(arguments)
        with Step("source", name):
            if wanted.give_up:
                return _give_up(name, wanted.config)
            if wanted.following is not None:
                from pyinit.initrd.programs import soft_reboot

                settings = config.load(wanted.config)
                return soft_reboot.prepare(name, settings, wanted.following, wanted.sysroot)
            settings = config.load(wanted.config)
            done = compose.mounted_at(wanted.sysroot)
            if done is not None:
                return _already(name, wanted.sysroot, done, settings)
            line = cmdline.load()
            _obey_volatile(settings, line)
            moved = _MOVED if wanted.root is not None else ()
            record = boot.setup(settings, line, wanted.sysroot, moved, root=wanted.root)
    except CfsError as error:
        output.error(f"{name}: {error}\n")
        return error.code
    announce.announce(name, record, settings)
    return EXIT_OK


def _obey_volatile(settings: Config, line: CommandLine) -> None:
    """As bootc does: this /var is not the disk's, whatever systemd then makes of the word."""
    forgets = {"state", "overlay"} & set(line.all("systemd.volatile"))
    if settings.profile == "bootc" and settings.var == "bind" and forgets:
        settings.var = "transient"


def _give_up(name: str, path: str) -> int:
    """Does what the configuration says. Returns 0 where that is a shell, for the caller."""
    settings = Config()
    try:
        settings = config.load(path)
    except CfsError as error:
        output.error(f"{name}: {error}\n")
    if ending.wants_shell(settings):
        output.err(f"{name}: a shell, since the configuration says so\n")
        return EXIT_OK
    ending.end(name, settings)
    return EXIT_SYSTEM


def _already(name: str, sysroot: str, done: Digest, settings: Config) -> int:
    """A root is there already. Returns 0 for the same digest. Refused: it is another one."""
    second = settings.digest_source == "first-initrd"
    held = handed_over.load()[1] if second else decide.carried()
    candidates = held.roots if held is not None else cmdline.digests(cmdline.load())
    if done in candidates:
        if not _is_recorded(done):
            found = f"{done} is mounted there, and {status.PATH} does not say that it was checked"
            raise Refused("attach", sysroot, found, "nothing, or a root with its record")
        output.err(f"{name}: {done} is mounted on {sysroot} already\n")
        return EXIT_OK
    expected = " ".join(map(str, candidates)) or "a root that somebody names"
    raise Refused("attach", sysroot, f"{done} is mounted there already", expected)


def _is_recorded(digest: Digest) -> bool:
    """Did this program compose it? Its source and options are words that any mount can have."""
    try:
        return str(digest).encode("ascii") in files.read(status.PATH, status.MAX)
    except OSError:
        return False


class _Wanted:
    """The command line of cfs-setup-root."""

    __slots__ = ("config", "following", "give_up", "root", "sysroot")

    def __init__(self) -> None:
        self.root: str | None = None
        self.sysroot = "/sysroot"
        self.config = config.PATH
        self.following: Digest | None = None
        self.give_up = False


def _parse(arguments: list[str]) -> _Wanted:
    values = _values(arguments)
    wanted = _Wanted()
    wanted.give_up = _GIVE_UP in values
    wanted.root = values.get("--root")
    if "--soft-reboot" in values:
        if wanted.root is not None:
            raise UsageError("usage", "--root", "not together with --soft-reboot")
        digest = values["--soft-reboot"]
        if not digest:
            raise UsageError("usage", "--soft-reboot", "its value is empty", "a digest")
        wanted.following = Digest.parse(digest, "--soft-reboot")
        wanted.config = status.CONFIG
    if "--sysroot" in values:
        wanted.sysroot = _absolute("--sysroot", values["--sysroot"])
    if "--config" in values:
        wanted.config = _absolute("--config", values["--config"])
    # --give-up works without a configuration: it comes after a failure.
    if wanted.config != config.PATH and not wanted.give_up:
        try:
            posix.stat(wanted.config)
        except OSError as error:
            raise UsageError("config", wanted.config, os_error(error)) from None
    return wanted


def _values(arguments: list[str]) -> dict[str, str]:
    """By option."""
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option == _GIVE_UP and not equals:
            values[option] = ""
            continue
        if option not in _OPTIONS:
            raise UsageError("usage", option, "unknown option", ", ".join((*_OPTIONS, _GIVE_UP)))
        if not equals:
            if not rest:
                raise UsageError("usage", option, "its value is missing")
            value = rest.pop(0)
        values[option] = value
    return values


def _absolute(option: str, path: str) -> str:
    if not path.startswith("/"):
        raise UsageError("usage", option, repr(path), "an absolute path")
    return path if path == "/" else path.rstrip("/")
