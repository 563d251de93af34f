# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The configuration and the images of an initrd, as far as they are to be seen from outside."""

import _cfs
from pathlib import Path
from stat import S_IFLNK, S_IFREG

import pytest

from pyinit.host.uki import settings
from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.host.uki.read import Uki
from pyinit.host.uki.seal import carried_initrd, format_digests
from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config
from tests.host.uki.test_pe_write import Image

BASE = _cfs.PE_BASE
NAME = "usr/lib/composefs/setup-root.conf"
ONE, TWO, THREE = (Digest(_cfs.SHA256, bytes([number] * 32)) for number in (1, 2, 3))
ZSTD = b"\x28\xb5\x2f\xfd compressed".ljust(32, b".")
INIT = write_cpio([Entry("init", S_IFREG | 0o755, b"#!/bin/sh\n")])


def configured(pcr: str, name: str = NAME) -> bytes:
    made = Config()
    made.measure_pcr = pcr
    return write_cpio([Entry(name, S_IFREG | 0o644, config.format(made))])


def write(path: Path, initrd: bytes, *more: tuple[str, bytes]) -> Uki:
    sections = [(".text", b"code"), (".linux", b"kernel"), (".initrd", initrd), *more]
    path.write_bytes(Image(sections).build())
    return Uki(path)


@pytest.mark.parametrize(
    ("initrd", "pcr"),
    [
        (INIT + configured("15"), "15"),
        (INIT, "none"),  # no file: the defaults
        (configured("15") + configured("8"), "8"),  # the last one is in effect
        (ZSTD + bytes(4) + configured("15"), "15"),  # it comes after what cannot be seen
        (configured("15") + bytes(70000) + INIT, "15"),  # NULs between
    ],
    ids=["there", "none", "two", "last", "gap"],
)
def test_what_is_in_effect(tmp_path: Path, initrd: bytes, pcr: str) -> None:
    found = settings.find(write(tmp_path / "a", initrd + carried_initrd(format_digests([ONE]))))
    assert found is not None
    assert found.measure_pcr == pcr


LINK = write_cpio([Entry(NAME, S_IFLNK | 0o777, b"/other")])


@pytest.mark.parametrize(
    "initrd",
    [
        ZSTD,
        configured("15") + ZSTD,
        configured("15") + bytes(70000) + ZSTD,
        configured("15") + ZSTD + INIT,
        configured("15") + LINK,
        configured("15") + write_cpio([Entry(NAME, S_IFREG | 0o644)]),
    ],
    ids=["all", "after", "far", "between", "link", "hard link"],
)
def test_what_cannot_be_seen_may_be_in_effect(tmp_path: Path, initrd: bytes) -> None:
    assert settings.find(write(tmp_path / "a", initrd)) is None


def test_no_initrd(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(Image([(".text", b"code"), (".linux", b"kernel")]).build())
    assert settings.find(Uki(path)) is None


def test_the_name_as_find_and_cpio_write_it(tmp_path: Path) -> None:
    initrd = configured("15", "x" + NAME).replace(b"x" + NAME.encode(), b"/" + NAME.encode())
    found = settings.find(write(tmp_path / "a", initrd))
    assert found is not None
    assert found.measure_pcr == "15"


def test_a_profile_has_its_own_or_the_base_s(tmp_path: Path) -> None:
    uki = write(
        tmp_path / "a", configured("15"), (".profile", b"ID=a"),
        (".profile", b"ID=b"), (".initrd", configured("8")),
    )  # fmt: skip
    found = [settings.find(uki, profile) for profile in (BASE, 0, 1)]
    assert [each and each.measure_pcr for each in found] == ["15", "15", "8"]


def test_a_malformed_one(tmp_path: Path) -> None:
    broken = write_cpio([Entry(NAME, S_IFREG | 0o644, b"cfsconf1\nwhat=1\n")])
    with pytest.raises(UsageError, match=rf"/a: \.initrd: {NAME}: unknown key 'what'"):
        settings.find(write(tmp_path / "a", broken))


# ---- images

CARRIED = carried_initrd(format_digests([ONE, TWO]))
SECTION = (".cfsdig", format_digests([THREE]))
LINE = (".cmdline", f"quiet composefs={THREE.hex}".encode())


def allowed(source: str) -> Config:
    made = Config()
    made.digest_source = source
    return made


@pytest.mark.parametrize(
    ("initrd", "more", "known", "source", "expected"),
    [
        (CARRIED, [], None, None, ([ONE, TWO], "carried")),
        (CARRIED, [LINE], None, None, ([ONE, TWO], "carried")),
        (CARRIED, [LINE], allowed("carried"), None, ([ONE, TWO], "carried")),
        (CARRIED, [LINE], allowed("cmdline"), None, ([THREE], "cmdline")),
        (CARRIED, [LINE], allowed("any"), None, ([ONE, TWO], "carried")),
        (ZSTD, [SECTION], allowed("carried"), None, ([THREE], "carried")),
        (ZSTD, [SECTION], allowed("uki"), None, ([THREE], "uki")),
        (ZSTD, [SECTION], None, "uki", ([THREE], "uki")),
        (ZSTD, [SECTION], None, "carried", ([THREE], "carried")),
        (CARRIED, [SECTION], None, None, ([ONE, TWO], "carried")),
        (CARRIED, [SECTION], allowed("uki"), None, ([THREE], "uki")),
        (ZSTD, [LINE], allowed("uki"), None, ([], "uki")),
        (ZSTD, [LINE], None, None, ([THREE], "cmdline")),
        (ZSTD, [LINE], allowed("carried"), None, ([], "carried")),
        (ZSTD, [SECTION], allowed("cmdline"), None, ([], "cmdline")),
        (CARRIED, [LINE], allowed("carried"), "cmdline", ([THREE], "cmdline")),
        # A section and no copy in the initrd: boot takes the command line, or nothing.
        (INIT, [SECTION, LINE], allowed("any"), None, ([THREE], "cmdline")),
        (INIT, [SECTION], allowed("any"), None, ([], "carried")),
        (INIT, [SECTION], allowed("carried"), None, ([], "carried")),
        (INIT, [SECTION, LINE], None, "carried", ([], "carried")),
        (INIT, [SECTION, LINE], None, "uki", ([THREE], "uki")),
        (ZSTD, [SECTION], allowed("any"), None, ([THREE], "carried")),
        (ZSTD, [SECTION, LINE], allowed("any"), "carried", ([THREE], "carried")),
        (CARRIED, [SECTION, LINE], allowed("any"), None, ([ONE, TWO], "carried")),
        (ZSTD, [], None, None, ([], "carried")),
    ],
)
def test_who_names_the_image(
    tmp_path: Path, initrd: bytes, more: list[tuple[str, bytes]], known: Config | None,
    source: str | None, expected: tuple[list[Digest], str],
) -> None:  # fmt: skip
    assert settings.images(write(tmp_path / "a", initrd, *more), BASE, known, source) == expected


@pytest.mark.parametrize(
    ("initrd", "known", "source", "said"),
    [
        (CARRIED, None, None, False),  # the configuration may say cmdline
        (CARRIED, allowed("any"), None, True),
        (ZSTD, allowed("any"), None, False),  # a file may be in it, which would decide
        (INIT, allowed("any"), None, True),
        (ZSTD, allowed("cmdline"), None, True),
        (ZSTD, None, "carried", True),
        (ZSTD, None, None, False),
    ],
)
def test_is_the_source_certain(
    tmp_path: Path, initrd: bytes, known: Config | None, source: str | None, said: bool
) -> None:
    uki = write(tmp_path / "a", initrd, LINE)
    assert settings.source_is_said(uki, BASE, known, source) == said


def test_images_of_profiles(tmp_path: Path) -> None:
    line = (".cmdline", f"composefs={TWO.hex}".encode())
    uki = write(
        tmp_path / "a", ZSTD, (".cfsdig", format_digests([ONE])), line, (".profile", b"ID=a"),
        (".profile", b"ID=b"), SECTION, (".cmdline", b"quiet"),
        (".profile", b"ID=c"), (".initrd", CARRIED),
    )  # fmt: skip
    for profile, images in ((BASE, [ONE]), (0, [ONE]), (1, [THREE]), (2, [ONE, TWO])):
        assert settings.images(uki, profile, allowed("carried")) == (images, "carried")
    for profile, images in ((BASE, [TWO]), (0, [TWO]), (1, []), (2, [TWO])):
        assert settings.images(uki, profile, None, "cmdline") == (images, "cmdline")


def test_a_profile_s_initrd_has_no_copy_of_the_base_s(tmp_path: Path) -> None:
    """The stub takes one initrd. What the section says was sealed into both."""
    uki = write(
        tmp_path / "a", CARRIED, SECTION, (".profile", b"ID=a"),
        (".profile", b"ID=b"), (".initrd", ZSTD),
    )  # fmt: skip
    assert settings.images(uki, 0, None) == ([ONE, TWO], "carried")
    assert settings.images(uki, 1, None, "carried") == ([THREE], "carried")


LINKED = write_cpio([Entry("usr/lib/composefs/rootfs.digest", S_IFLNK | 0o777, b"/other")])


@pytest.mark.parametrize("initrd", [ZSTD, INIT + ZSTD, ZSTD + INIT, LINKED])
@pytest.mark.parametrize(("known", "what"), [(None, "section"), (allowed("any"), "command line")])
def test_a_source_that_is_not_to_be_seen(
    tmp_path: Path, initrd: bytes, known: Config | None, what: str
) -> None:
    """It is in what is measured."""
    uki = write(tmp_path / "a", initrd, SECTION, LINE)
    with pytest.raises(Refused, match=f"not to be seen whether its initrd or its {what} names"):
        settings.images(uki, BASE, known)
