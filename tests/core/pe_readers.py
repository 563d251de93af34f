# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Other readers of PE files, to compare with."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pefile

from .core import Core


def agrees_with_pefile(core: Core, data: bytes, pe: Any) -> None:
    """All that the core read, in the order of the table: pefile sorts by VirtualAddress."""
    other = pefile.PE(data=data, fast_load=True)
    assert sorted(core.sections(pe), key=_address) == [
        (
            s.Name, s.Misc_VirtualSize, s.VirtualAddress, s.SizeOfRawData, s.PointerToRawData,
            s.Characteristics,
        )
        for s in other.sections
    ]  # fmt: skip
    optional, certificates = other.OPTIONAL_HEADER, other.OPTIONAL_HEADER.DATA_DIRECTORY[4]
    assert {
        "machine": other.FILE_HEADER.Machine,
        "magic": optional.Magic,
        "file_alignment": optional.FileAlignment,
        "section_alignment": optional.SectionAlignment,
        "size_of_image": optional.SizeOfImage,
        "size_of_headers": optional.SizeOfHeaders,
        "header_offset": other.DOS_HEADER.e_lfanew,
        "checksum_offset": optional.get_field_absolute_offset("CheckSum"),
        "certificate_directory": certificates.get_file_offset(),
        "certificate_offset": certificates.VirtualAddress,
        "certificate_size": certificates.Size,
        "section_table": min(section.get_file_offset() for section in other.sections),
    }.items() <= {name: getattr(pe, name) for name in dir(pe)}.items()


def _address(section: tuple[bytes, int, int, int, int, int]) -> int:
    return section[2]


def by_objcopy(path: Path, name: str, directory: Path) -> bytes:
    """Content of the section, by GNU binutils."""
    target = directory / "dumped"
    target.unlink(missing_ok=True)
    _run("objcopy", "--dump-section", f"{name}={target}", path, directory / "copy")
    return target.read_bytes()


def by_llvm(path: Path, name: str) -> bytes:
    """The same by LLVM's reader; its objcopy dumps no sections of PE files."""
    shown = _run("llvm-readobj", f"--hex-dump={name}", path)
    # Address, up to 16 bytes in groups of four, and, from a fixed column on, as text.
    lines = re.findall(r"^0x[0-9a-f]+ (.{35})", shown, re.MULTILINE)
    return bytes.fromhex("".join(lines))


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout.decode(errors="replace")
