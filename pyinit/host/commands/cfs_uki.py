# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-uki`: the digest of a root in a UKI, written and shown; what a TPM will hold of both."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pyinit.host.commands import uki_embed, uki_predict
from pyinit.host.commands.command import (
    VerbParser,
    add_digests,
    add_others,
    complain,
    parse_digests,
    parse_others,
    run,
    say,
    warn,
)
from pyinit.initrd.report.errors import (
    EXIT_OK,
    EXIT_REFUSED,
    CfsError,
    Refused,
    printable,
)
from pyinit.initrd.source.payload import INITRD

# What a verb needs is imported by the verb: `--version` and a typo are told at once.
if TYPE_CHECKING:
    from pathlib import Path

    from pyinit.host.uki.read import Uki
    from pyinit.initrd.root.digest import Digest
    from pyinit.initrd.source.payload import Payload

NAME = "cfs-uki"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0, 1 wrong use, 2 system error, 4 a bug, 32 refused."""
    return run(NAME, _parser(), arguments)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _parser() -> VerbParser:
    parser = VerbParser(NAME, "Names the root's digest in a UKI, and shows it.")

    verb = parser.add_verb("seal", _seal, "write the digest into a UKI, before it is signed")
    add_digests(verb)
    uki_embed.add_embed(verb)
    add_others(verb)
    verb.add_argument("--replace", action="store_true", help="replace the digests of a sealed UKI")
    verb.add_argument(
        "--unsigned-command-line",
        action="store_true",
        help="accept a UKI without a command line: whoever starts it chooses PID 1",
    )
    verb.add_argument("input", metavar="IN.efi", type=_path, help="the UKI to seal")
    verb.add_argument(
        "-o", "--output", metavar="OUT.efi", type=_path, required=True, help="the sealed UKI"
    )

    verb = parser.add_verb(
        "payload", _payload, "write the files from which ukify builds a sealed UKI"
    )
    add_digests(verb)
    uki_embed.add_embed(verb)
    add_others(verb)
    verb.add_argument("directory", metavar="DIR", type=_path, help="where they are written")

    verb = parser.add_verb("show", _show, "print sections, digests and command line of a UKI")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("file", metavar="FILE", type=_path, help="the UKI")

    verb = parser.add_verb("digests", _digests, "print every digest that UKIs name, one a line")
    verb.add_argument(
        "paths", metavar="FILE|DIR", type=_path, nargs="+", help="a UKI, or a directory with UKIs"
    )

    verb = parser.add_verb("predict", uki_predict.predict, "print what PCRs of the TPM will hold")
    uki_predict.add_options(verb)
    return parser


def _seal(options: argparse.Namespace) -> int:
    from pyinit.host.uki import settings
    from pyinit.host.uki.read import COMMAND_LINE
    from pyinit.host.uki.seal import seal

    others = parse_others(options)
    more, digests = uki_embed.take(options, parse_digests(options.digests), others)
    uki = seal(
        options.input,
        options.output,
        digests,
        others=others,
        more=more,
        replace=options.replace,
        unsigned_command_line=options.unsigned_command_line,
    )
    for key in _dropped(uki, others):
        warn(NAME, f"{uki.path}: named {key}, and the sealed one does not: give --{key} again")
    if more is None and uki.embedded() is not None:
        warn(NAME, f"{uki.path}: had an image in its initrd: give --embed again to keep one")
    try:
        found = settings.find(uki)
    except CfsError:  # its own matter, which the boot tells
        found = None
    if found is not None and found.etc == "overlay" and "confext" in dict(options.extensions):
        warn(NAME, f"{uki.path}: --confext: {_NO_CONFEXT}")
    if found is not None and more is not None and more.objects is not None:
        for name, mode in (("etc", found.etc), ("var", found.var)):
            if mode not in ("none", "transient"):
                warn(NAME, f"{uki.path}: --embed-objects: [{name}] mount is {mode!r} {_NO_DISK}")
    command_line = uki.command_line()
    if command_line is None:
        warn(NAME, f"{uki.path}: no {COMMAND_LINE}: {_UNSIGNED}")
    elif _takes_credentials(_decoded(command_line)):
        warn(NAME, f"{uki.path}: {COMMAND_LINE} without {_NO_CREDENTIALS}: {_CREDENTIALS}")
    return EXIT_OK


def _dropped(uki: Uki, kept: dict[str, Digest]) -> list[str]:
    """What the UKI named before it was sealed again, as options."""
    try:
        named = uki.carried_payload() or uki.section_payload()
    except CfsError:
        return []
    before = {} if named is None else named.others
    return [
        f"{key} {digest}" if key == INITRD else f"{key.replace('.', ' ', 1)}={digest}"
        for key, digest in before.items()
        if key not in kept
    ]


_NO_CONFEXT = (
    '[etc] mount is "overlay" in its initrd: older kernels (seen: 6.12) stack no extension '
    "above that; 7.3 does"
)
_NO_DISK = "in its initrd, which lies on a disk: the boot refuses that"
# systemd takes credentials from the ESP, beside the UKI, and from SMBIOS; none of them is signed.
_NO_CREDENTIALS = "systemd.import_credentials=no"
_CREDENTIALS = (
    "where systemd is in the initrd or the root, what lies beside the UKI adds units to it"
)
_UNSIGNED = "whoever starts the UKI chooses init= and its arguments"


def _takes_credentials(command_line: str) -> bool:
    """Does systemd? The last word counts."""
    key, _, no = _NO_CREDENTIALS.partition("=")
    words = [word.partition("=") for word in command_line.split()]
    said = [value for name, _, value in words if name.replace("-", "_") == key]
    return not said or said[-1].lower() not in (no, "n", "0", "false", "f", "off")


def _payload(options: argparse.Namespace) -> int:
    from pyinit.host.atomic import write_file
    from pyinit.host.uki.seal import carried_initrd, format_digests
    from pyinit.initrd.source.payload import SECTION

    others = parse_others(options)
    more, digests = uki_embed.take(options, parse_digests(options.digests), others)
    data = format_digests(digests, others)
    section, initrd = options.directory / "cfsdig", options.directory / "cfsdig.initrd"
    write_file(section, [data], 0o644)
    write_file(initrd, [carried_initrd(data, more)], 0o644)
    # For `ukify build … $(cfs-uki payload …)`: behind the other initrds, since the last copy counts
    say(f"--section={SECTION}:@{section}", f"--initrd={initrd}")
    complain(NAME, f"the UKI needs a command line too (--cmdline=): without one, {_UNSIGNED}")
    return EXIT_OK


def _show(options: argparse.Namespace) -> int:
    import json

    from pyinit.host.uki import peek
    from pyinit.host.uki.read import Uki, read_file
    from pyinit.initrd.handover.status import readable

    try:
        uki = Uki(options.file)
    except Refused:
        # The sections tell a person what it is instead.
        rows = peek.sections(read_file(options.file))
        if rows is not None and not options.json:
            say("sections:", *(_section(printable(row.name), row.size, row.offset) for row in rows))
        raise
    about = describe(uki)
    say(json.dumps(readable(about), indent=2) if options.json else _text(about))
    return EXIT_OK


def describe(uki: Uki) -> dict[str, Any]:
    """What `show --json` prints. `agree` is null where only one of the two copies is to be seen."""
    import _cfs

    command_line = uki.command_line()
    # With profiles in it, the base alone is never booted.
    booted = range(uki.profiles) if uki.profiles else [_cfs.PE_BASE]
    return {
        "file": str(uki.path),
        "machine": uki.machine,
        "signed": uki.signed,
        "cmdline": None if command_line is None else _decoded(command_line),
        "unsigned_command_line": any(uki.command_line(profile) is None for profile in booted),
        "sections": [
            {"name": section.name, "size": section.size, "offset": section.offset}
            for section in uki.sections
        ],
        "profiles": uki.profiles,
        "digests": [
            digests
            for profile in range(_cfs.PE_BASE, uki.profiles)
            if (digests := _describe_digests(uki, profile)) is not None
        ],
    }


def _describe_digests(uki: Uki, profile: int) -> dict[str, object] | None:
    import _cfs

    section, carried = uki.section_payload(profile), uki.carried_payload(profile)
    if profile != _cfs.PE_BASE:
        if not uki.has_own(profile):
            return None  # what the profile has is the base's
        # As the stub takes them: an initrd of its own comes instead of the base's, with the copy.
        if section is None:
            section = uki.section_payload()
        if carried is None and uki.find(".initrd", profile) is None:
            carried = uki.carried_payload()
    return {
        "profile": None if profile == _cfs.PE_BASE else profile,
        "section": _strings(section),
        "carried": _strings(carried),
        **_others(section if carried is None else carried),
        "embedded": _embedded(uki, profile, section if carried is None else carried),
        "agree": None if section is None or carried is None else section == carried,
    }


def _embedded(uki: Uki, profile: int, named: Payload | None) -> str | None:
    """The digest of the image in the initrd: that of a candidate, where it is one."""
    from pyinit.host.uki.read import embedded_digest

    image = uki.embedded(profile)
    if image is None and uki.find(".initrd", profile) is None:
        image = uki.embedded()
    return None if image is None else str(embedded_digest(image, named.roots if named else []))


def _strings(named: Payload | None) -> list[str] | None:
    return None if named is None else [str(digest) for digest in named.roots]


def _others(named: Payload | None) -> dict[str, object]:
    """Where the two copies differ, those of the one that boots: `agree` says so."""
    if named is None:
        return {INITRD: None, "extensions": {}, "apps": {}}
    initrd = named.others.get(INITRD)
    return {
        INITRD: None if initrd is None else str(initrd),
        "extensions": {key: str(each) for key, each in named.extensions.items()},
        "apps": {name: str(each) for name, each in named.apps.items()},
    }


def _decoded(text: bytes) -> str:
    return text.rstrip(b"\0\n").decode("utf-8", "backslashreplace")


_AGREE = {True: "yes", False: "NO", None: "only one copy is to be seen"}


def _text(about: dict[str, object]) -> str:
    command_line = about["cmdline"]
    lines = [
        f"file:         {printable(str(about['file']))}",
        f"machine:      {about['machine']}",
        f"signed:       {'yes' if about['signed'] else 'no'}",
        f"command line: {'none' if command_line is None else printable(str(command_line))}",
    ]
    if about["unsigned_command_line"]:
        lines.append(f"              UNSIGNED: {_UNSIGNED}")
    lines.append("sections:")
    for section in _rows(about["sections"]):
        lines.append(_section(str(section["name"]), section["size"], section["offset"]))
    for entry in _rows(about["digests"]):
        profile = entry["profile"]
        lines.append("digests:" if profile is None else f"digests of profile {profile}:")
        for source in ("section", "carried"):
            digests = entry[source]
            shown = digests if isinstance(digests, list) else ["none"]
            lines += [f"  {source}: {digest}" for digest in shown]
        if entry["embedded"] is not None:
            lines.append(f"  embedded: {entry['embedded']}")
        if entry[INITRD] is not None:
            lines.append(f"  {INITRD}: {entry[INITRD]}")
        extensions = entry["extensions"]
        assert isinstance(extensions, dict)
        apps = entry["apps"]
        assert isinstance(apps, dict)
        lines += [f"  app.{name}: {digest}" for name, digest in apps.items()]
        lines += [f"  {key}: {digest}" for key, digest in extensions.items()]
        if entry["section"] is not None or entry["carried"] is not None:
            agree = _AGREE[entry["agree"]]  # type: ignore[index]
            if profile is not None and entry["carried"] is None:
                agree += "; without a copy in its own initrd this profile does not boot"
            lines.append(f"  agree:   {agree}")
    return "\n".join(lines)


def _section(name: str, size: object, offset: object) -> str:
    return f"  {name:8} {size!s:>10} bytes at {offset}"


def _rows(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def _digests(options: argparse.Namespace) -> int:
    from pyinit.host.uki.named import below, none_in

    found: set[str] = set()
    status = EXIT_OK
    for path in options.paths:
        looked_at = False
        for _, named, error in below(path):
            looked_at = True
            found.update(map(str, named))
            if error is not None:
                complain(NAME, error)
                status = max(status, error.code)
        if not looked_at:
            complain(NAME, none_in(path))
            status = max(status, EXIT_REFUSED)
    if found:
        say(*sorted(found))
    return status
