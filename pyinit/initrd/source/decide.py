# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which digests may be booted, and who says so.

The carried file decides; it is as trusted as this program, in whose initrd it lies. What the
UKI's section and the command line say is compared with it: every source that is there must agree,
and one that disagrees stops the boot. The command line is a source of its own only where the
initrd's configuration allows it, and the section where that demands it and the TPM proves it. A
second initrd gets it from the first, which has compared them.
"""

import errno

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import Refused, SystemFailure, os_error
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import cmdline, handed_over, payload
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config
from pyinit.initrd.source.esp import UkiDigests
from pyinit.initrd.source.payload import Payload

_COMMAND_LINE = "kernel command line"


class Decision:
    """Candidates in order of preference, extensions by key, apps by name; and who names them."""

    __slots__ = ("apps", "candidates", "extensions", "level", "named", "source", "uki")

    def __init__(self, named: Payload, source: str, uki: str) -> None:
        self.named = named
        self.candidates = named.roots
        self.extensions, self.apps = named.extensions, named.apps
        self.source = source  # carried, cmdline or uki
        self.level = "proved" if source == "uki" else source
        self.uki = uki  # what came of comparing the UKI's section


def carried(path: str = payload.CARRIED) -> Payload | None:
    """What is named in the initrd; None where there is no such file. Refused if it is broken."""
    try:
        data = files.read(path, payload.MAX)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno == errno.EFBIG:
            found = f"more than {payload.MAX} bytes"
            raise Refused("source", path, found, f"at most {payload.MAX}") from None
        raise SystemFailure("source", path, os_error(error)) from None
    return payload.parse(data, path)


def decide(config: Config, held: Payload | None, uki: UkiDigests, line: CommandLine) -> Decision:
    """The candidates. Refused("source") where there is none or two sources disagree."""
    named = cmdline.digests(line)
    _check_named(config, named, uki)
    allowed = config.digest_source
    if allowed == "uki":
        decision = _by_uki(held, uki)
    elif held is not None:
        if allowed == "cmdline":
            expected = "none in this initrd (digest-source=cmdline in its configuration)"
            raise Refused("source", payload.CARRIED, "a digest", expected)
        decision = Decision(held, "carried", _compare_uki(config, held, uki))
    elif allowed == "carried":
        expected = "the file that cfs-uki seal adds to the UKI's initrd"
        if handed_over.is_there():
            expected += "; or digest-source=first-initrd in its configuration"
        elif named:
            expected += "; or digest-source=cmdline in its configuration"
        raise Refused("source", payload.CARRIED, "not in this initrd", expected)
    elif not named:
        found = f"no composefs= or composefs.digest=, and no {payload.CARRIED}"
        raise Refused("source", _COMMAND_LINE, found, "a digest")
    else:
        by_line = Payload(named)
        decision = Decision(by_line, "cmdline", _compare_uki(config, by_line, uki))
    _check_line(named, decision)
    return decision


def taken_over(held: Payload | None, line: CommandLine) -> tuple[Decision, dict[str, str]]:
    """In a second initrd: what the first one decided, and its facts for the status record. A copy
    in this initrd and the command line must agree with it. Refused("source")."""
    facts, named = handed_over.load()
    if held is not None and held != named:
        _conflict(payload.CARRIED, held, named)
    decision = Decision(named, facts["source"], facts["uki"])
    decision.level = facts["level"]
    _check_line(cmdline.digests(line), decision)
    return decision, facts


def _by_uki(held: Payload | None, uki: UkiDigests) -> Decision:
    if not uki.proved or uki.found is None:
        expected = "the UKI that was booted, proved by the TPM (digest-source=uki)"
        raise Refused("source", uki.path or "UKI", f"not proved: {uki.why_not}", expected)
    if held is not None and held != uki.found:
        _conflict(payload.CARRIED, held, uki.found)
    return Decision(uki.found, "uki", f"proved: {uki.path}")


def _check_line(named: list[Digest], decision: Decision) -> None:
    if named and named != decision.candidates:
        _conflict(_COMMAND_LINE, Payload(named), Payload(decision.candidates))


def _check_named(config: Config, named: list[Digest], uki: UkiDigests) -> None:
    """Boot menus and add-ons append, and who removes the first image chooses the next: so several
    count only where the UKI's own command line, signed with it, has just these."""
    own = uki.line if config.profile == "bootc" else None
    if own is None:
        if len(named) > 1:
            raise Refused("source", _COMMAND_LINE, f"two digests, {named[0]} and {named[1]}")
    elif named != cmdline.digests(own):
        expected = " ".join(map(str, cmdline.digests(own))) or "no digest"
        found = " ".join(map(str, named)) or "no digest"
        raise Refused("source", _COMMAND_LINE, found, f"{expected}, as {uki.path} has it")


def _compare_uki(config: Config, expected: Payload, uki: UkiDigests) -> str:
    if config.uki == "off":
        return "not read (configuration)"
    if uki.found is None:
        if config.uki == "require":
            raise Refused("source", uki.path or "UKI", uki.why_not, "its section to compare")
        return f"not compared: {uki.why_not}"
    if uki.found != expected:
        _conflict(uki.path, uki.found, expected)
    return f"unproved, equal: {uki.path}"


def _conflict(where: str, found: Payload, expected: Payload) -> None:
    raise Refused("source", where, str(found), str(expected))
