# SPDX-License-Identifier: Apache-2.0 OR MIT
"""pe.c against pefile, GNU objcopy and LLVM, on what systemd and its tools made, and on mutations.

Where they differ, with the reason:
- pefile gives sections in the order of VirtualAddress; the core, as the stub, in that of the table.
- Where a name is there more than once (profiles), objcopy takes any of them.
- LLVM refuses a file whose data directories point to nothing; the core reads none of them but that
  of the certificates. So .reloc is never moved here.
- For the rest, they take files that the core refuses, never the other way round.
"""

import _cfs
import os
import random
from pathlib import Path

import pytest

from fuzz import real
from fuzz.parsers import PARSERS
from tests.core.core import Core
from tests.core.pe_builder import with_certificates, with_field, with_section
from tests.core.pe_readers import agrees_with_pefile, by_llvm, by_objcopy

MUTATIONS = 40
OURS = b".cfsdig"
NAMES = (OURS, b".profile", b".cfsdigX", b".linux", b"")
HEADER = ("SectionAlignment", "FileAlignment", "SizeOfImage", "SizeOfHeaders", "CheckSum")
SECTION = ("VirtualSize", "VirtualAddress", "SizeOfRawData", "PointerToRawData")


@pytest.fixture(scope="module")
def files() -> list[Path]:
    [directory] = real.files(PARSERS["pe"])
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def _agree(core: Core, data: bytes, directory: Path) -> tuple[bool, int]:
    """Whether the core takes it, and the number of sections whose content was compared."""
    result, pe, why = core.pe_parse(data)
    if result:
        assert why
        return False, 0
    agrees_with_pefile(core, data, pe)
    path = directory / "file"
    path.write_bytes(data)
    names = [section[0] for section in core.sections(pe)]
    compared = 0
    for name in (OURS.ljust(8, b"\0"), b".sdmagic"):
        plain = name.rstrip(b"\0")
        index, _ = core.pe_find(pe, plain)
        if index < 0 or names.count(name) > 1:
            continue
        content = _content(core, pe, index, path)
        assert by_objcopy(path, plain.decode(), directory) == content
        assert by_llvm(path, plain.decode()) == content
        compared += 1
    return True, compared


def _content(core: Core, pe: object, index: int, path: Path) -> bytes:
    room = core.room(1 << 16)
    fd = os.open(path, os.O_RDONLY)
    try:
        size = core.lib.cfs_pe_section_read_fd(fd, pe, index, room, 1 << 16)
    finally:
        os.close(fd)
    assert size > 0
    return bytes(core.ffi.buffer(room, size))


def test_real_files(core: Core, files: list[Path], tmp_path: Path) -> None:
    found = {path.name: _agree(core, path.read_bytes(), tmp_path) for path in files}
    assert all(taken for taken, _ in found.values()), found
    for name in ("with-section-linuxx64.efi.stub", "signed-linuxx64.efi.stub"):
        assert found[name][1] == 2
        [path] = [path for path in files if path.name == name]
        with path.open("rb") as file:
            content = _cfs.pe_section_read(file.fileno(), OURS.decode(), _cfs.PE_BASE, 4096)
        assert content.startswith(b"cfsdig1\n")


def test_mutated_files(core: Core, files: list[Path], tmp_path: Path) -> None:
    draw = random.Random(31)
    taken = compared = 0
    for path in files:
        data = path.read_bytes()
        for _ in range(MUTATIONS):
            ok, sections = _agree(core, _mutated(core, data, draw), tmp_path)
            taken += ok
            compared += sections
    # Both kinds: what is refused, and what is taken and read the same way.
    assert len(files) * MUTATIONS / 4 < taken < len(files) * MUTATIONS
    assert compared > taken / 2


def _mutated(core: Core, data: bytes, draw: random.Random) -> bytes:
    _, pe, _ = core.pe_parse(data)
    for _ in range(draw.randrange(1, 4)):
        index = draw.randrange(pe.section_count)
        is_reloc = core.sections(pe)[index][0].startswith(b".reloc")
        value = draw.choice((0, 1, 8, 100, 512, 1024, 4096, len(data), len(data) - 8, 0xFFFFFE00))
        kind = draw.randrange(10)
        if kind == 0:
            data = with_field(data, draw.choice(HEADER), value)
        elif kind == 1:
            data = with_certificates(data, value, (len(data) - value) % (1 << 32))
        elif kind <= 3:
            data = with_section(data, index, draw.choice(NAMES))
        elif kind <= 8:
            field = draw.choice([name for name in SECTION if not (is_reloc and "Virtual" in name)])
            data = with_section(data, index, None, **{field: value})
        else:
            data = data[:-512] if draw.randrange(2) else data + bytes(512)
    return data
