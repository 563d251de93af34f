# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the initrd of a UKI is configured to, and which images it may compose, as far as that is to
be seen without decompression."""

from __future__ import annotations

import _cfs
import os
from collections.abc import Iterator
from stat import S_ISREG

from pyinit.host.uki.cpio import Member, find_archives
from pyinit.host.uki.read import CARRIED, Uki
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

_PLACE = config.PATH.lstrip("/")
_CHUNK = 1 << 16


def find(uki: Uki, profile: int = _cfs.PE_BASE) -> Config | None:
    """The configuration that is in effect, the defaults where there is no such file. None: it may
    be in a part that is compressed. CfsError: it is malformed.

    The kernel unpacks one part after the other, and the last file of a name stays. So a part that
    cannot be seen may have another one than those before it.
    """
    found: bytes | None = b""
    for members in _parts(uki, profile):
        if members is None:
            found = None
            continue
        for member in members:
            if _is(member, _PLACE):
                data = uki.data[member.start : member.start + member.size]
                found = data if S_ISREG(member.mode) and data else None
    if found is None:
        return None
    return config.parse(found, f"{uki.path}: .initrd: {_PLACE}") if found else Config()


def images(
    uki: Uki, profile: int, settings: Config | None, source: str | None = None
) -> tuple[list[Digest], str]:
    """The images of which the boot composes the first one that is there, and the source that names
    them: `source`, or what the configuration says, or what is there. No image: none is to be
    seen. CfsError: malformed; Refused: the source is not to be seen."""
    wanted = source or ("any" if settings is None else settings.digest_source)
    base = _cfs.PE_BASE
    section = uki.section_digests(profile)
    if section is None and profile != base:
        section = uki.section_digests()
    if wanted == "uki":
        return section or [], "uki"
    carried = _carried(uki, profile)
    named = uki.command_line_digests(profile)
    if named is None and profile != base and uki.find(".cmdline", profile) is None:
        named = uki.command_line_digests()
    if carried is None and section is not None and not _lacks_carried(uki, profile):
        if source is None and settings is None:
            found = "not to be seen whether its initrd or its section names the image"
            raise uki.refused(found, "--source carried, or --source uki")
        if wanted == "any" and named:  # which count where there is no copy
            found = "not to be seen whether its initrd or its command line names the image"
            raise uki.refused(found, "--source carried, or --source cmdline")
        carried = section  # sealing has put the same into both
    if wanted == "cmdline" or (wanted == "any" and not carried and named):
        return named or [], "cmdline"
    return carried or [], "carried"


def others(uki: Uki, profile: int, source: str) -> dict[str, Digest]:
    """What the boot composes beside the root where that source names it, as `images` has it; by
    key, in their order. Apps are not among them."""
    if source == "cmdline":
        return {}
    named = None
    if source != "uki":
        named = uki.carried_payload(profile)
        if named is None and profile != _cfs.PE_BASE and uki.find(".initrd", profile) is None:
            named = uki.carried_payload()
    if named is None:
        named = uki.section_payload(profile)
    if named is None and profile != _cfs.PE_BASE:
        named = uki.section_payload()
    if named is None:
        return {}
    return {key: each for key, each in named.others.items() if not key.startswith("app.")}


def source_is_said(
    uki: Uki, profile: int, settings: Config | None, source: str | None = None
) -> bool:
    """Is what `images` gives as the source certain? Else a configuration that is not to be seen, or
    a file that is not, may say another one."""
    if source is not None or settings is None:
        return source is not None
    if settings.digest_source != "any" or _carried(uki, profile) is not None:
        return True
    return _lacks_carried(uki, profile)


def _carried(uki: Uki, profile: int) -> list[Digest] | None:
    found = uki.carried_digests(profile)
    if found is None and profile != _cfs.PE_BASE and uki.find(".initrd", profile) is None:
        found = uki.carried_digests()
    return found


def _lacks_carried(uki: Uki, profile: int) -> bool:
    """Is it certain that no digest is in the initrd? A link of that name may lead to one."""
    return not any(
        members is None or any(_is(member, CARRIED) for member in members)
        for members in _parts(uki, profile)
    )


def _parts(uki: Uki, profile: int) -> Iterator[list[Member] | None]:
    """The archives of the initrd in their order; None for what cannot be seen."""
    index = uki.find(".initrd", profile)
    if index is None and profile != _cfs.PE_BASE:
        index = uki.find(".initrd")
    if index is None:
        yield None
        return
    seen = uki.sections[index].offset
    end = seen + len(uki.view(index))
    for first, behind, members in find_archives(uki.data, seen, end):
        if not _empty(uki.data, seen, first):
            yield None
        yield members
        seen = behind
    if not _empty(uki.data, seen, end):
        yield None


def _is(member: Member, name: str) -> bool:
    # `find | cpio -o` writes ./usr/…, which the kernel unpacks just the same
    return os.path.normpath("/" + member.name).lstrip("/") == name


def _empty(data: bytes, start: int, end: int) -> bool:
    """NULs, and nothing else: the kernel skips them."""
    return not any(
        data[at : min(at + _CHUNK, end)].strip(b"\0") for at in range(start, end, _CHUNK)
    )
