# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A UKI as this project sees it: its sections, and the digests that it names.

Both copies of the digests have the format of `pyinit.initrd.source.payload`: the section
`.cfsdig`, and the carried file in the initrd.
"""

from __future__ import annotations

import _cfs
import _cfshost
import os
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from pyinit.host.failure import system_failure
from pyinit.host.uki import peek
from pyinit.host.uki.cpio import Member, find_archives
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import embedded, memory_store
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import cmdline, payload
from pyinit.initrd.source.payload import Payload

COMMAND_LINE = ".cmdline"
CARRIED = payload.CARRIED.lstrip("/")
EMBEDDED = embedded.PATH.lstrip("/")
OBJECTS = memory_store.PATH.lstrip("/")
SIZE_MAX = 2 << 30  # bytes; the reader's own limit

# IMAGE_FILE_MACHINE_*: the names that `uname -m` gives
MACHINES = {
    0x014C: "i386",
    0x01C2: "arm",
    0x5064: "riscv64",
    0x6264: "loongarch64",
    0x8664: "x86_64",
    0xAA64: "aarch64",
}


_KEYS = ("composefs", "composefs.digest")

# Without any of these a PE file has no say in which root is booted.
_TELLING = {".linux", ".initrd", payload.SECTION}


class NotBooting(Refused):
    """A PE file that is no UKI and carries nothing of one: a boot loader, say. It need not be as
    strict as a UKI has to be: shim, fwupd and memtest86+ are not."""


class Section(NamedTuple):
    """A row of the section table. All numbers are in bytes."""

    name: str
    size: int  # VirtualSize: what the stub sees
    stored: int  # SizeOfRawData: shorter where the rest is zeros, longer by padding
    offset: int  # in the file
    address: int


class Carried(NamedTuple):
    """A copy in the initrd. `start` and `end`: of its archive, in bytes from the initrd's start;
    `alone`: nothing else is in that but an embedded image and its objects."""

    data: bytes
    start: int
    end: int
    alone: bool


class Uki:
    """A PE file that has a kernel in it. Everything is read once, from one descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = read_file(path)
        try:
            self.fields, table = _cfs.pe_parse(self.data)
        except OSError as error:
            fault = f"not a valid PE file ({error.strerror})"
            if self._has_no_say():
                raise NotBooting("source", str(path), fault, "a UKI") from None
            raise self.refused(fault, "a UKI") from None
        self.sections = [
            Section(
                name=row[0].rstrip(b"\0").decode("ascii", "backslashreplace"),
                size=row[1],
                stored=row[3],
                offset=row[4],
                address=row[2],
            )
            for row in table
        ]
        self.profiles = sum(section.name == ".profile" for section in self.sections)
        names = {section.name for section in self.sections}
        if ".linux" not in names:
            kind = Refused if names & _TELLING else NotBooting
            raise kind("source", str(path), "no .linux section", "a UKI")

    def _has_no_say(self) -> bool:
        rows = peek.sections(self.data)
        return rows is not None and not _TELLING & {row.name for row in rows}

    def refused(self, found: str, expected: str = "") -> Refused:
        """The refusal of this file, to be raised by the caller."""
        return Refused("source", str(self.path), found, expected)

    @property
    def signed(self) -> bool:
        """Does the file have a table of signatures? Whether one is valid is not looked at."""
        return self.fields["certificate_size"] != 0

    @property
    def machine(self) -> str:
        """The architecture's name, or its number in hex where it is not known here."""
        return MACHINES.get(self.fields["machine"], f"{self.fields['machine']:#06x}")

    def find(self, name: str, profile: int = _cfs.PE_BASE) -> int | None:
        """Index of the one section of that name. Refused: there twice, or not whole in the file."""
        try:
            return _cfs.pe_find(self.data, name, profile)
        except FileNotFoundError:
            return None
        except FileExistsError:
            raise self.refused(f"section {name} twice", "one") from None
        except OSError as error:
            raise self.refused(f"section {name}: {error.strerror}") from None

    def view(self, index: int) -> memoryview:
        """That section in the file, without padding and without a copy: an initrd has 400 MB."""
        section = self.sections[index]
        return memoryview(self.data)[
            section.offset : section.offset + min(section.size, section.stored)
        ]

    def content(self, index: int) -> bytes:
        """The bytes of that section in the file, without padding."""
        return bytes(self.view(index))

    def read(self, name: str, profile: int = _cfs.PE_BASE) -> bytes | None:
        """The bytes of the section of that name; None where there is none. Refused, as find()."""
        index = self.find(name, profile)
        return None if index is None else self.content(index)

    def command_line(self, profile: int = _cfs.PE_BASE) -> bytes | None:
        """What a boot menu and the firmware cannot replace where Secure Boot is on; a profile's own
        one or the base's. None: they say it all."""
        own = self.read(COMMAND_LINE, profile)
        return own if own is not None or profile == _cfs.PE_BASE else self.read(COMMAND_LINE)

    def command_line_digests(self, profile: int = _cfs.PE_BASE) -> list[Digest] | None:
        """What `composefs=` and `composefs.digest=` in the command line of its own name, as bootc
        seals a UKI; None where there is none of them. Refused: malformed."""
        data = self.read(COMMAND_LINE, profile)
        return None if data is None else on_line(data, f"{self.path}: {COMMAND_LINE}") or None

    def section_payload(self, profile: int = _cfs.PE_BASE) -> Payload | None:
        """What `.cfsdig` names; None where there is none. CfsError: malformed."""
        data = self.read(payload.SECTION, profile)
        return None if data is None else payload.parse(data, f"{self.path}: {payload.SECTION}")

    def carried(self, profile: int = _cfs.PE_BASE) -> list[Carried]:
        """The copies in the initrd; the kernel unpacks in order, so the last one is in effect."""
        span = self._initrd(profile)
        return [] if span is None else find_carried(self.data, *span)

    def embedded(self, profile: int = _cfs.PE_BASE) -> memoryview | None:
        """The image of the root in the initrd, as `seal --embed` puts it there; None: none is to be
        seen."""
        span = self._initrd(profile)
        return None if span is None else find_embedded(self.data, *span)

    def _initrd(self, profile: int) -> tuple[int, int] | None:
        index = self.find(".initrd", profile)
        if index is None:
            return None
        start = self.sections[index].offset
        return start, start + len(self.view(index))

    def section_digests(self, profile: int = _cfs.PE_BASE) -> list[Digest] | None:
        """The candidates for the root that `.cfsdig` names. Else as section_payload()."""
        named = self.section_payload(profile)
        return None if named is None else named.roots

    def carried_digests(self, profile: int = _cfs.PE_BASE) -> list[Digest] | None:
        """Those that the copy in the initrd names. Else as carried_payload()."""
        named = self.carried_payload(profile)
        return None if named is None else named.roots

    def has_own(self, profile: int) -> bool:
        """Has that profile, or the base, a section or an initrd that may name digests?"""
        return any(self.find(name, profile) is not None for name in (payload.SECTION, ".initrd"))

    def carried_payload(self, profile: int = _cfs.PE_BASE) -> Payload | None:
        """What the copy in the initrd names; None where there is none. CfsError: malformed."""
        copies = self.carried(profile)
        if not copies:
            return None
        return payload.parse(copies[-1].data, f"{self.path}: .initrd: {CARRIED}")

    def named_digests(self) -> Iterator[Digest]:
        """Every digest of every profile, some more than once: of both copies and of the command
        line.

        Who asks keeps just these images. So it ends with Refused where something that can be booted
        shows none of them: an initrd that is compressed whole may well have a copy.
        """
        base = _Named.of(self, _cfs.PE_BASE)
        yield from base.digests
        # With profiles in it, the base alone is never booted.
        booted = [] if self.profiles else [base]
        for profile in range(self.profiles):
            own = _Named.of(self, profile)
            yield from own.digests
            booted.append(own.over(base))
        if not all(named.digests for named in booted):
            raise self.refused(
                f"no {payload.SECTION} section, no composefs= in {COMMAND_LINE}, and no {CARRIED} "
                "to be seen in an initrd",
                "a sealed UKI",
            )


class _Named(NamedTuple):
    """What the two copies and the command line name. None: no such section, no such initrd."""

    section: list[Digest] | None
    initrd: list[Digest] | None
    line: list[Digest] | None

    @classmethod
    def of(cls, uki: Uki, profile: int) -> _Named:
        carried = _all(uki.carried_payload(profile))
        if carried is None and uki.find(".initrd", profile) is not None:
            carried = []
        line = uki.command_line_digests(profile)
        if line is None and uki.find(COMMAND_LINE, profile) is not None:
            line = []
        return cls(_all(uki.section_payload(profile)), carried, line)

    @property
    def digests(self) -> list[Digest]:
        return [*(self.section or ()), *(self.initrd or ()), *(self.line or ())]

    def over(self, base: _Named) -> _Named:
        """As the stub takes a profile's sections: instead of the base's of the same name."""
        return _Named(
            base.section if self.section is None else self.section,
            base.initrd if self.initrd is None else self.initrd,
            base.line if self.line is None else self.line,
        )


def _all(named: Payload | None) -> list[Digest] | None:
    return None if named is None else [*named.roots, *named.others.values()]


def on_line(data: bytes, where: str) -> list[Digest]:
    """What a command line names. A `?`, which asks for no check, is the same image. Refused."""
    line = cmdline.parse(data)
    line.parameters = [
        (key, value.removeprefix("?") if value is not None and key in _KEYS else value)
        for key, value in line.parameters
        if key != _KEYS[0] or value  # empty: none, or bootc's word for any
    ]
    try:
        return cmdline.digests(line)
    except Refused as error:
        raise Refused("source", where, error.found, error.expected) from None


def find_carried(data: bytes | mmap, start: int, limit: int) -> list[Carried]:
    """The copies that can be seen without decompression; the initrd lies between the offsets."""
    found = []
    for first, end, members in find_archives(data, start, limit):
        files = [member for member in members if S_ISREG(member.mode)]
        others = [
            member
            for member in files
            if not _is(member, EMBEDDED) and not member.name.startswith(f"{OBJECTS}/")
        ]
        found += [
            Carried(
                data[member.start : member.start + member.size],
                first - start,
                end - start,
                others == [member],
            )
            for member in files
            if _is(member, CARRIED)
        ]
    return found


def find_embedded(data: bytes, start: int, limit: int) -> memoryview | None:
    """The last image that can be seen there, as find_carried() looks."""
    found = None
    for _, _, members in find_archives(data, start, limit):
        for member in members:
            if S_ISREG(member.mode) and _is(member, EMBEDDED):
                found = memoryview(data)[member.start : member.start + member.size]
    return found


def has_objects(data: bytes, start: int, limit: int) -> bool:
    """Is there a directory of objects, or something in it, as far as can be seen?"""
    return any(
        f"{os.path.normpath('/' + member.name)}/".startswith(f"/{OBJECTS}/")
        for _, _, members in find_archives(data, start, limit)
        for member in members
    )


def embedded_digest(image: memoryview, candidates: list[Digest]) -> Digest:
    """That of a candidate, where it is one."""
    for digest in candidates:
        if is_of(image, digest):
            return digest
    return Digest(_cfs.SHA256, _cfshost.verity_digest(bytes(image), _cfs.SHA256))


def is_of(image: bytes | memoryview, digest: Digest) -> bool:
    """Has an image this digest?"""
    return _cfshost.verity_digest(bytes(image), digest.algorithm) == digest.value


def _is(member: Member, name: str) -> bool:
    # `find | cpio -o` writes ./usr/…, which the kernel unpacks just the same
    return os.path.normpath("/" + member.name).lstrip("/") == name


def read_file(path: Path) -> bytes:
    """All of it. Refused: not a regular file, or larger than SIZE_MAX. SystemFailure."""
    try:
        # A FIFO must not hold up a walk through a directory.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not S_ISREG(status.st_mode):
                raise Refused("source", str(path), "not a regular file", "a UKI")
            if status.st_size > SIZE_MAX:
                raise Refused("source", str(path), f"{status.st_size} bytes", "at most 2 GiB")
            return file.read()
    except OSError as error:
        raise system_failure(error, str(path)) from None
