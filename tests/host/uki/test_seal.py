# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Sealing real UKIs: what it writes, what it leaves alone, what it refuses."""

import _cfs
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pefile
import pytest

from pyinit.host.uki.cpio import Entry, read_cpio, write_cpio
from pyinit.host.uki.pe_write import rewrite
from pyinit.host.uki.read import CARRIED, Uki
from pyinit.host.uki.seal import END_OF_LZ4, carried_archive, format_digests, seal
from pyinit.initrd.report.errors import Refused, SystemFailure, UsageError
from pyinit.initrd.root.digest import Digest
from tests.host.conftest import Signer, UkiParts
from tests.host.uki.test_pe_write import Image, check_layout

ONE = Digest(_cfs.SHA256, bytes(range(32)))
TWO = Digest(_cfs.SHA512, bytes(range(64)))


@pytest.fixture
def sealed(plain_uki: Path, tmp_path: Path) -> Path:
    seal(plain_uki, tmp_path / "sealed.efi", [ONE, TWO])
    return tmp_path / "sealed.efi"


def test_both_copies_are_there(plain_uki: Path, sealed: Path) -> None:
    uki = Uki(sealed)
    assert uki.section_digests() == uki.carried_digests() == [ONE, TWO]
    # through the reader of the initrd: from the descriptor, bounded
    with sealed.open("rb") as file:
        data = _cfs.pe_section_read(file.fileno(), ".cfsdig", _cfs.PE_BASE, 4096)
    assert data == format_digests([ONE, TWO])


def test_the_archive_is_as_the_kernel_wants_it(plain_uki: Path, sealed: Path) -> None:
    before, after = Uki(plain_uki).read(".initrd"), Uki(sealed).read(".initrd")
    assert before is not None
    assert after is not None
    assert after.startswith(before)
    [copy] = Uki(sealed).carried()
    assert copy.start % 4 == 0
    assert after[len(before) : copy.start] == bytes(copy.start - len(before))
    assert copy.start - len(before) >= 4, "the end mark of LZ4"
    entries, _ = read_cpio(after, copy.start)
    assert [entry.name for entry in entries] == [
        "usr",
        "usr/lib",
        "usr/lib/composefs",
        "usr/lib/composefs/rootfs.digest",
    ]
    assert entries[-1].mode == stat.S_IFREG | 0o444


def test_nuls_that_end_the_initrd_are_its_own(uki_parts: UkiParts, tmp_path: Path) -> None:
    # LZ4 data may end with them: they are then no end mark (seen: "Decoding failed").
    source = tmp_path / "in.efi"
    source.write_bytes(
        Image([(".linux", b"x"), (".initrd", b"lz4 data" + bytes(8)), COMMAND_LINE]).build()
    )
    seal(source, source, [ONE])
    assert Uki(source).carried()[0].start == 20


def test_everything_else_is_as_before(plain_uki: Path, sealed: Path) -> None:
    before, after = Uki(plain_uki), Uki(sealed)
    names = [section.name for section in before.sections]
    assert [section.name for section in after.sections] == [*names, ".cfsdig"]
    for index, name in enumerate(names):
        assert after.sections[index].address == before.sections[index].address
        if name != ".initrd":
            assert after.content(index) == before.content(index)
    check_layout(sealed.read_bytes())


def test_signed_afterwards_it_verifies(sealed: Path, signer: Signer, tmp_path: Path) -> None:
    signed = signer.sign(sealed, tmp_path / "signed.efi")
    assert "Signature verification OK" in signer.verify(signed)
    assert Uki(signed).signed
    assert Uki(signed).section_digests() == Uki(signed).carried_digests() == [ONE, TWO]


def test_signed_before_is_refused(plain_uki: Path, signer: Signer, tmp_path: Path) -> None:
    signed = signer.sign(plain_uki, tmp_path / "signed.efi")
    with pytest.raises(Refused, match="signed, expected an unsigned UKI: seal first, then sign"):
        seal(signed, tmp_path / "out.efi", [ONE])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["signed.efi"]


def test_objcopy_uki_with_the_initrd_in_the_middle(
    uki_parts: UkiParts, signer: Signer, tmp_path: Path
) -> None:
    base = pefile.PE(str(uki_parts.stub), fast_load=True).OPTIONAL_HEADER.ImageBase
    command_line = tmp_path / "cmdline"
    command_line.write_bytes(b"quiet")
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"i" * 4095)  # exactly up to .cmdline: sealing must move what follows
    arguments: list[str | Path] = []
    for name, file, address in [
        (".initrd", initrd, 0x60000),
        (".cmdline", command_line, 0x61000),
        (".linux", uki_parts.kernel.vmlinuz, 0x62000),
    ]:
        arguments += [f"--add-section={name}={file}"]
        arguments += [f"--change-section-vma={name}={base + address:#x}"]
    source, target = tmp_path / "in.efi", tmp_path / "out.efi"
    subprocess.run(["objcopy", *arguments, uki_parts.stub, source], check=True, timeout=600)

    seal(source, target, [ONE])
    before, after = Uki(source), Uki(target)
    for name in (".cmdline", ".linux"):
        assert after.read(name) == before.read(name) != None  # noqa: E711
    moved = {section.name: section.address for section in after.sections}
    assert (moved[".initrd"], moved[".cmdline"], moved[".linux"]) == (0x60000, 0x62000, 0x63000)
    check_layout(target.read_bytes())
    assert "OK" in signer.verify(signer.sign(target, tmp_path / "signed.efi"))
    shown = subprocess.run(
        ["objcopy", "--dump-section", f".cfsdig={tmp_path / 'dumped'}", target, tmp_path / "copy"],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert not shown.stderr
    assert (tmp_path / "dumped").read_bytes().rstrip(b"\0") == format_digests([ONE])


def test_replace(plain_uki: Path, sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sealed already"):
        seal(sealed, sealed, [ONE])
    seal(sealed, sealed, [TWO], replace=True)
    assert Uki(sealed).section_digests() == Uki(sealed).carried_digests() == [TWO]
    seal(plain_uki, tmp_path / "direct.efi", [TWO])
    assert sealed.read_bytes() == (tmp_path / "direct.efi").read_bytes(), "no trace of the first"


def test_same_input_same_bytes(plain_uki: Path, sealed: Path, tmp_path: Path) -> None:
    seal(plain_uki, tmp_path / "again.efi", [ONE, TWO])
    assert sealed.read_bytes() == (tmp_path / "again.efi").read_bytes()


def small(tmp_path: Path, *sections: tuple[str, bytes]) -> Path:
    path = tmp_path / "in.efi"
    path.write_bytes(Image([(".text", b"code"), *sections, COMMAND_LINE]).build())
    return path


COMMAND_LINE = (".cmdline", b"quiet")
LINUX, INITRD = (".linux", b"kernel"), (".initrd", b"initrd")
CARRIED_INITRD = carried_archive(format_digests([TWO]))
IN_THE_MIDDLE = write_cpio(
    [Entry("init", 0o100755, b"init"), Entry(CARRIED, 0o100444, format_digests([TWO]))]
)


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ([INITRD], "no .linux section"),
        ([LINUX], "no .initrd section"),
        ([LINUX, INITRD, INITRD], "section .initrd twice"),
        ([LINUX, INITRD, (".profile", b"ID=a")], "1 profiles"),
        ([LINUX, INITRD, (".pcrsig", b"{}")], "a PCR signature"),
        ([LINUX, INITRD, (".cfsdig", b"anything")], "sealed already"),
        ([LINUX, (".initrd", CARRIED_INITRD)], "sealed already"),
    ],
)
def test_refused(sections: list[tuple[str, bytes]], found: str, tmp_path: Path) -> None:
    source = small(tmp_path, *sections)
    before = source.read_bytes()
    with pytest.raises(Refused) as caught:
        seal(source, source, [ONE])
    assert caught.value.found.startswith(found)
    assert caught.value.path == str(source)
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "initrd", [IN_THE_MIDDLE, CARRIED_INITRD * 2, CARRIED_INITRD + b"0705compressed"]
)
def test_replace_only_what_sealing_wrote(initrd: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="part of the initrd"):
        seal(small(tmp_path, LINUX, (".initrd", initrd)), tmp_path / "out", [ONE], replace=True)


def test_no_section_left_out_of_the_comparison(tmp_path: Path) -> None:
    # .dtbauto may be there several times: each is compared with itself.
    source = small(tmp_path, LINUX, (".dtbauto", b"one"), INITRD, (".dtbauto", b"two"))
    seal(source, tmp_path / "out.efi", [ONE])
    uki = Uki(tmp_path / "out.efi")
    assert [uki.content(index) for index in (2, 4)] == [b"one", b"two"]


@pytest.mark.parametrize("section", [".linux", ".initrd", ".cfsdig"])
def test_a_wrong_result_is_never_renamed_into_place(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, **changes: Any) -> list[bytes]:
        image = bytearray(b"".join(rewrite(data, **changes)))
        _, table = _cfs.pe_parse(bytes(image))
        [pointer] = [row[4] for row in table if row[0].rstrip(b"\0").decode() == section]
        image[pointer] ^= 1
        return [bytes(image)]

    monkeypatch.setattr("pyinit.host.uki.seal.rewrite", broken)
    source, target = small(tmp_path, LINUX, INITRD), tmp_path / "out.efi"
    target.write_bytes(b"before")
    with pytest.raises(Refused, match="when read back"):
        seal(source, target, [ONE])
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.efi", "out.efi"]


def test_a_layout_that_cannot_be_changed_has_a_way_out(tmp_path: Path) -> None:
    """The arm64 stub of Debian 12 has data behind its sections; ukify puts its own behind that."""
    source = tmp_path / "in.efi"
    source.write_bytes(Image([LINUX, INITRD, COMMAND_LINE], tail=b"tail").build())
    with pytest.raises(Refused) as caught:
        seal(source, source, [ONE])
    assert str(caught.value) == (
        f"refused: source: {source}: data in no section at byte 2560, "
        "expected a UKI that ukify built with what `cfs-uki payload` writes"
    )


def test_a_cut_archive_that_would_swallow_the_copy(tmp_path: Path) -> None:
    """The kernel would take it for the data of that file, and boot without a digest."""
    up_to_trailer = carried_archive(format_digests([ONE])).index(b"TRAILER!!!") - 110
    size = len(END_OF_LZ4) + up_to_trailer
    cut = write_cpio([Entry("file", stat.S_IFREG | 0o644, bytes(size))])[:116]  # the header
    source = small(tmp_path, LINUX, (".initrd", cut))
    with pytest.raises(Refused, match="another carried copy when read back"):
        seal(source, tmp_path / "out.efi", [ONE])


def test_a_result_that_no_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one section more than it takes: it is told of the input, and is no fault of the disk."""
    monkeypatch.setattr("pyinit.host.uki.seal.rewrite", lambda *_, **__: [bytes(2048)])
    with pytest.raises(Refused, match=r"in.efi: no UKI when read back \(DOS header: no MZ"):
        seal(small(tmp_path, LINUX, INITRD), tmp_path / "out.efi", [ONE])


def test_memory_is_little_more_than_the_file(tmp_path: Path) -> None:
    """It was six times the file: 2.5 GB for a UKI of 412 MB."""
    size = 64 << 20
    source = tmp_path / "in.efi"
    source.write_bytes(Image([LINUX, (".initrd", bytes(size)), COMMAND_LINE]).build())
    code = (
        "import resource, sys; from pathlib import Path; from pyinit.host.uki.seal import *; "
        "[data] = [int(line.split()[1]) for line in open('/proc/self/status') if 'VmData' in line];"
        "most = (data << 10) + int(sys.argv[2]);"
        "resource.setrlimit(resource.RLIMIT_DATA, [most, most]);"
        "seal(Path(sys.argv[1]), Path(sys.argv[1]), [Digest(1, bytes(32))])"
    )
    subprocess.run(
        [sys.executable, "-c", code, source, str(size * 6 // 5)], timeout=600, check=True,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert Uki(source).carried_digests() == [Digest(_cfs.SHA256, bytes(32))]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    source = tmp_path / "in.efi"
    with source.open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(Refused, match="2147483649 bytes, expected at most 2 GiB"):
        seal(source, source, [ONE])


def test_permissions_are_kept(tmp_path: Path) -> None:
    source, target = small(tmp_path, LINUX, INITRD), tmp_path / "out.efi"
    source.chmod(0o640)
    seal(source, target, [ONE])
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    seal(source, target, [TWO])
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_what_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--digest"):
        seal(small(tmp_path, LINUX, INITRD), tmp_path / "out.efi", [ONE, ONE])


def test_who_starts_it_must_not_choose_what_pid_1_is(tmp_path: Path) -> None:
    """`init=/usr/bin/python3 -- -c ...` ran as PID 1 of the sealed root."""
    source, target = tmp_path / "in.efi", tmp_path / "out.efi"
    source.write_bytes(Image([LINUX, INITRD]).build())
    with pytest.raises(Refused) as caught:
        seal(source, target, [ONE])
    assert str(caught.value) == (
        f"refused: source: {source}: no .cmdline section: whoever starts it would choose init= and "
        "its arguments, expected one (ukify build --cmdline=...), or --unsigned-command-line"
    )
    assert list(tmp_path.iterdir()) == [source]
    seal(source, target, [ONE], unsigned_command_line=True)
    assert Uki(target).section_digests() == Uki(target).carried_digests() == [ONE]
    assert Uki(target).command_line() is None


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="ENOENT"):
        seal(tmp_path / "absent", tmp_path / "out.efi", [ONE])
