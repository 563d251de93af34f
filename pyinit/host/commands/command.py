# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the host's commands have in common: exit codes, and one line on stderr for a failure."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from pyinit import VERSION
from pyinit.host.failure import system_failure
from pyinit.initrd.report.errors import (
    EXIT_INTERNAL,
    EXIT_OK,
    EXIT_SYSTEM,
    EXIT_USAGE,
    CfsError,
    SystemFailure,
    UsageError,
    printable,
)
from pyinit.initrd.report.output import StdoutError
from pyinit.initrd.report.traceback import format_exception
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source.payload import INITRD

TYPE_CHECKING = False  # typing takes two milliseconds to import
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from _typeshed import SupportsWrite

# Gives the exit code; `run` tells its CfsError and OSError.
Verb = Callable[[argparse.Namespace], int]
_COLUMNS = 80  # where nobody says how many there are
_NEW_OBJECTS = 20_000


def columns() -> int:
    """Of the terminal, as shutil.get_terminal_size() says."""
    with suppress(KeyError, ValueError):
        if (wanted := int(os.environ["COLUMNS"])) > 0:
            return wanted
    if sys.__stdout__ is not None:
        with suppress(ValueError, OSError):  # it is closed, or no terminal
            return os.get_terminal_size(sys.__stdout__.fileno()).columns or _COLUMNS
    return _COLUMNS


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for each option, also where no help is shown. Without a width that
    imports shutil, and with it bz2 and lzma: 1.5 ms."""
    return argparse.HelpFormatter(prog, width=columns() - 2)


class Parser(argparse.ArgumentParser):
    """argparse with the exit code of mount(8) for wrong use: 1, not 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Prints the usage and `message` on stderr. SystemExit with the code of wrong use."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """As argparse, but StdoutError where stdout takes no more."""
        if file is None:
            say(self.format_help().rstrip("\n"))
        else:
            super().print_help(file)


class VerbParser(Parser):
    """The parser of a command with verbs, one of which has to be given."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=name, description=description)
        self.add_argument("--version", action=_Version, help="show the version and exit")
        self._verbs = self.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
        verb = self.add_verb("help", self._help, "show the usage of the command, or of one verb")
        # The dictionary itself: the verbs are added later.
        verb.add_argument("verb", metavar="VERB", nargs="?", choices=self._verbs.choices)

    def add_verb(self, name: str, verb: Verb, line: str, description: str | None = None) -> Parser:
        """The verb's own parser: `run` calls `verb` with what that has parsed. `line`: for --help
        of the command; `description`: for the verb's own."""
        parser = self._verbs.add_parser(name, help=line, description=description)
        parser.set_defaults(run=verb)
        parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of progress")
        return parser

    def _help(self, options: argparse.Namespace) -> int:
        parser = self if options.verb is None else self._verbs.choices[options.verb]
        parser.print_help()
        return EXIT_OK


class _Version(argparse.Action):
    """argparse's own takes no notice of an error."""

    def __init__(self, option_strings: list[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        say(f"{parser.prog} {VERSION}")
        parser.exit(EXIT_OK)


def run(name: str, parser: Parser, arguments: list[str] | None) -> int:
    """Parses, calls the verb (the namespace's `run`) and turns its errors into an exit code.

    SIGTERM ends it as SIGINT does, so that no temporary file stays.
    """
    # The interpreter looks for cycles after each 700 new objects, those of imports too, and at its
    # end in all that was imported: 5 ms of 35.
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # whoever started it wants another
        return _finish(name, parser, arguments)
    _on_sigterm(signal.default_int_handler)
    try:
        return _finish(name, parser, arguments)
    finally:
        _on_sigterm(signal.SIG_DFL)


def _on_sigterm(action: Any) -> None:
    try:
        signal.signal(signal.SIGTERM, action)
    except OSError:
        pass  # what it is asked to do matters more than what a signal leaves


def _finish(name: str, parser: Parser, arguments: list[str] | None) -> int:
    try:
        status = _run(name, parser, arguments)
        with _stdout():
            if sys.stdout is not None:
                sys.stdout.flush()
        return status
    except StdoutError as error:
        if error.errno != errno.EPIPE:  # a reader that left (`| head`) knows
            complain(name, error)
        if sys.stdout is not None:
            # The interpreter must not flush into it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SYSTEM


def _run(name: str, parser: Parser, arguments: list[str] | None) -> int:
    try:
        options = parser.parse_args(arguments)
        verb: Verb = options.run
        return verb(options)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except CfsError as error:
        complain(name, error)
        return error.code
    except StdoutError:
        raise
    except MemoryError:
        complain(name, SystemFailure("source", name, "out of memory"))
        return EXIT_SYSTEM
    except OSError as error:
        complain(name, system_failure(error, None if error.filename else name))
        return EXIT_SYSTEM
    except KeyboardInterrupt:
        complain(name, "interrupted")
        return EXIT_SYSTEM
    except Exception as error:
        # A bug: 1, the interpreter's own, would say wrong use.
        print(*format_exception(error), sep="\n", file=sys.stderr)
        return EXIT_INTERNAL


def say(*lines: object) -> None:
    """Lines on stdout. StdoutError, which `run` tells: now, or when it flushes them."""
    with _stdout():
        if sys.stdout is None:  # closed when the interpreter started
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(*lines, sep="\n")


def write(data: bytes) -> None:
    """Bytes on stdout, as they are. StdoutError, as of say()."""
    with _stdout():
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


@contextmanager
def _stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StdoutError(error.errno, error.strerror) from None


def complain(name: str, what: object) -> None:
    """One line on stderr, after the name of the command."""
    print(f"{name}: {what}", file=sys.stderr)


def warn(name: str, text: str) -> None:
    """A warning on stderr. `text` may have names from a disk: control characters are escaped."""
    complain(name, f"warning: {printable(text)}")


def add_digests(parser: argparse.ArgumentParser) -> None:
    """Adds --digest to a parser. It is given several times, with the preferred image first."""
    parser.add_argument(
        "--digest",
        dest="digests",
        metavar="DIGEST",
        action="append",
        default=[],
        help="fs-verity digest of the image; given several times, with the preferred image first",
    )


def _of_kind(kind: str, text: str) -> tuple[str, str]:
    return kind, text


def add_others(parser: argparse.ArgumentParser) -> None:
    """Adds --initrd, --sysext, --confext and --app to a parser."""
    parser.add_argument(
        f"--{INITRD}",
        metavar="DIGEST",
        help="an image of a store, which init starts as a second initrd before the root is found",
    )
    merged = "an image of the same store, which systemd-{} lays over {}"
    for kind, text in (
        ("sysext", merged.format("sysext", "/usr")),
        ("confext", merged.format("confext", "/etc")),
        ("app", "an image that the running system may mount by this name (cfs-mount --name)"),
    ):
        parser.add_argument(
            f"--{kind}",
            dest="extensions",
            metavar="NAME=DIGEST",
            type=partial(_of_kind, kind),
            action="append",
            default=[],
            help=text,
        )


def parse_others(options: argparse.Namespace) -> dict[str, Digest]:
    """What was given with those, by key. UsageError: malformed, or one name twice."""
    found: dict[str, Digest] = {}
    if options.initrd is not None:
        found[INITRD] = Digest.parse(options.initrd, f"--{INITRD}")
    for kind, text in options.extensions:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError("usage", f"--{kind}", repr(text), "NAME=DIGEST")
        key = f"{kind}.{name}"
        if key in found:
            raise UsageError("usage", f"--{kind}", f"{name} is there twice", "each name once")
        found[key] = Digest.parse(value, f"--{kind} {name}")
    return found


def parse_digests(texts: list[str]) -> list[Digest]:
    """The digests that were given with --digest, in order. UsageError: one is malformed."""
    return [Digest.parse(text, "--digest") for text in texts]
