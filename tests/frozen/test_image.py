# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The executable with its snapshot, as a file."""

import os
import shutil
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.frozen import build, image
from tests.frozen.conftest import run

ADDRESSES = st.lists(st.integers(0, 4000), unique=True).map(
    lambda found: [word * 8 for word in sorted(found)]
)


@given(addresses=ADDRESSES)
def test_relr_says_the_same_addresses(addresses: list[int]) -> None:
    table = image.encode_relr(addresses)
    assert list(image.decode_relr(table)) == addresses
    assert len(table) <= len(addresses)


def test_relr_as_the_linker_writes_it(executable: Path) -> None:
    """Of the file before the snapshot came into it, read by pyelftools."""
    with (executable.parent / f"{build.NAME}.debug").open("rb") as file:
        section = ELFFile(file).get_section_by_name(".relr.dyn")
        wanted = [relocation["r_offset"] for relocation in section.iter_relocations()]
        words = struct.unpack(f"<{section['sh_size'] // 8}Q", section.data())
    assert list(image.decode_relr(words)) == wanted
    assert image.encode_relr(wanted) == [word for word in words if word != 1]


def segments(path: Path) -> list[dict[str, int]]:
    with path.open("rb") as file:
        return [dict(s.header) for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"]


def test_the_window_is_a_huge_page_and_a_tail_and_its_content_is_read_only(
    executable: Path,
) -> None:
    *_, writable, window, content = segments(executable)
    size = (2 << 20) + 32 * 4096
    assert (window["p_filesz"], window["p_memsz"], window["p_align"]) == (0, size, 2 << 20)
    assert window["p_vaddr"] % (2 << 20) == 0
    assert writable["p_vaddr"] + writable["p_memsz"] <= window["p_vaddr"]
    assert content["p_flags"] == 4
    assert content["p_vaddr"] == window["p_vaddr"] + window["p_memsz"]


def test_the_code_of_the_modules_is_left_out(executable: Path) -> None:
    """As it was imported from; what was made of it is in the snapshot."""
    with (executable.parent / "frozen" / f"{build.NAME}.first").open("rb") as file:
        code = ELFFile(file).get_section_by_name(".modules").data()
    assert len(code) > 100_000
    data = executable.read_bytes()
    parts = [code[at : at + 512] for at in range(0, len(code) - 512, 2048)]
    # The instructions of a long function are the same bytes in both.
    assert sum(part in data for part in parts) < len(parts) / 10


@pytest.mark.parametrize("options", [["-g", "-p"], ["-p"], ["--strip-all"]])
def test_strip_leaves_it_alone(executable: Path, tmp_path: Path, options: list[str]) -> None:
    """dracut runs it on every program of an initrd. (eu-strip, tried by hand, does the same.)"""
    copy = Path(shutil.copy(executable, tmp_path / "copy"))
    assert "no sections" in run("strip", *options, copy).stderr
    assert copy.read_bytes() == executable.read_bytes()


def test_nothing_of_the_build_is_in_the_file(executable: Path) -> None:
    """Of the processes whose memory was taken: environment, directory, home."""
    data = executable.read_bytes()
    texts = {str(Path.cwd()), os.environ.get("HOME", "/root"), os.uname().nodename}
    # A setting without a path may be a word that the program has too.
    texts |= {value for value in os.environ.values() if "/" in value}
    assert not {text for text in texts if len(text) > 5 and text.encode() in data}


@pytest.mark.parametrize("align", [0x1000, 0x4000, 0x10000])
def test_offsets_fit_to_the_pages_of_the_kernel(align: int) -> None:
    """arm64 has pages of 16 and 64 KiB."""
    loads = [
        image._Segment(1, 4, 0, 0x1AA0, align, data=b"\1" * 0x1AA0),
        image._Segment(1, 5, 0x10000, 0x23000, align, data=b"\2" * 0x23000),
        image._Segment(1, 6, 0x64D80, 0x7000, align, data=b"\3" * 0x3000),
        image._Segment(1, 6, 0x200000, 0x200000, 2 << 20),
        image._Segment(1, 4, 0x400000, 0x5001, align, data=b"\4" * 0x5001),
    ]
    start = struct.pack("<16sHHIQQQIHHHHHH", b"", 3, 62, 1, 0, 64, 0, 0, 64, 56, 11, 64, 0, 0)
    file = image._laid_out(start, loads, [])
    for index, load in enumerate(loads):
        header = struct.unpack_from("<IIQQQQQQ", file, 64 + 56 * index)
        assert header[:2] == (1, load.flags)
        assert (header[2] - header[3]) % load.align == 0
        assert header[3:] == (load.address, load.address, len(load.data), load.size, load.align)
        content = file[header[2] : header[2] + header[5]]
        assert content[-0x1000:] == load.data[-0x1000:]


@pytest.mark.parametrize("name", ["cfs_window_start", "cfs_modules_end"])
def test_a_symbol_that_is_missing_is_named(executable: Path, tmp_path: Path, name: str) -> None:
    stripped = tmp_path / "stripped"
    debug = executable.parent / f"{build.NAME}.debug"
    run("objcopy", f"--strip-symbol={name}", debug, stripped)
    with pytest.raises(image.ImageError, match=f"no symbol {name}"):
        image.Places.of(stripped)
