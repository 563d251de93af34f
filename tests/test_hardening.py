# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the hardening flags leave in the files that ship."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pyinit.host.frozen import build, flags

ROOT = Path(__file__).resolve().parents[1]


def symbols(path: Path, table: str) -> set[str]:
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(table)
        assert isinstance(section, SymbolTableSection)
        return {symbol.name for symbol in section.iter_symbols()}


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As setup.py builds it."""
    out = tmp_path_factory.mktemp("extension")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext"]
    subprocess.run(
        [*command, "--build-lib", str(out), "--build-temp", str(out / "temp")],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return out / "_cfs.abi3.so"


def test_the_extension_is_hardened(extension: Path) -> None:
    with extension.open("rb") as file:
        elf = ELFFile(file)
        segments = {segment["p_type"]: segment for segment in elf.iter_segments()}
        assert "PT_GNU_RELRO" in segments
        assert not segments["PT_GNU_STACK"]["p_flags"] & 1
        assert not any(
            segment["p_flags"] & 3 == 3
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
        )
        dynamic = elf.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
    assert tags["DT_FLAGS"] & 0x8  # DF_BIND_NOW
    assert not {"DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"} & set(tags)
    imported = symbols(extension, ".dynsym")
    assert "__stack_chk_fail" in imported
    assert {name for name in imported if re.fullmatch(r"__\w+_chk", name)}


def test_nothing_of_the_extension_is_exported_but_its_start(extension: Path) -> None:
    with extension.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        exported = {
            symbol.name
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        }
    assert exported == {"PyInit__cfs"}


def test_the_executable_has_canaries_and_checked_copies() -> None:
    """Read from the file with symbols; the stripped one is the same code."""
    debug = ROOT / "build" / f"{build.NAME}.debug"
    assert debug.exists(), "make frozen"
    there = symbols(debug, ".symtab")
    assert "__stack_chk_fail" in there
    assert {name for name in there if re.fullmatch(r"__\w+_chk", name)}


def test_each_flag_is_known_to_the_compiler() -> None:
    command = [*flags.compiler(), "-O2", "-Werror", *flags.hardening()]
    subprocess.run(
        [*command, "-x", "c", "-c", "-", "-o", "/dev/null"],
        input="int main(void) { return 0; }", text=True, check=True, timeout=60,
    )  # fmt: skip
    assert not flags._is_known("-fno-such-flag")
