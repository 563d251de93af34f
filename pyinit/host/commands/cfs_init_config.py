# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-init-config`: the initrd's configuration, checked and compiled when the initrd is built."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyinit.host.atomic import write_file
from pyinit.host.commands.command import VerbParser, complain, run, say, warn
from pyinit.host.config import setup_root_conf
from pyinit.host.config.setup_root_conf import ConfigErrors
from pyinit.initrd.report.errors import EXIT_OK, EXIT_USAGE, UsageError
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

NAME = "cfs-init-config"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0, 1 wrong use or configuration, 2 system error, 4 a bug."""
    return run(NAME, _parser(), arguments)


def _parser() -> VerbParser:
    parser = VerbParser(NAME, "Checks and compiles setup-root-conf.toml.")

    verb = parser.add_verb("compile", _compile, "write the compiled form, which the initrd reads")
    verb.add_argument("file", metavar="FILE", type=Path, help="the TOML")
    verb.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help=f"file for the compiled form (default: stdout; in an initrd: {config.PATH})",
    )

    verb = parser.add_verb("check", _check, "print what is wrong, and write nothing")
    verb.add_argument("file", metavar="FILE", type=Path, help="the TOML")
    return parser


def _compile(options: argparse.Namespace) -> int:
    settings = _read(options.file)
    if settings is None:
        return EXIT_USAGE
    data = config.format(settings)
    if options.output is None:
        say(data.decode("ascii").rstrip("\n"))
    else:
        write_file(options.output, [data], 0o644)
    return EXIT_OK


def _check(options: argparse.Namespace) -> int:
    return EXIT_USAGE if _read(options.file) is None else EXIT_OK


def _read(path: Path) -> Config | None:
    """The configuration; None where it is wrong, after every mistake was printed."""
    with path.open("rb") as file:
        data = file.read(setup_root_conf.MAX + 1)
    if len(data) > setup_root_conf.MAX:
        found = f"more than {setup_root_conf.MAX} bytes"
        raise UsageError("config", str(path), found, f"at most {setup_root_conf.MAX}")
    try:
        settings = setup_root_conf.read(data, str(path))
    except ConfigErrors as faults:
        for error in faults.errors:
            complain(NAME, error)
        return None
    for text in setup_root_conf.warnings(data):
        warn(NAME, f"{path}: {text}")
    return settings
