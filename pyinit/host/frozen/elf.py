# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What must hold of the built executable, read back from it with pyelftools."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import Segment

# Raw bytes; a leap means that something came back that csrc/runtime/absent.c keeps out. The budget
# that counts, of the compressed file, is a test's.
SIZE_MAX = 6 << 20

_PF_X, _PF_W = 1, 2
_DF_1_PIE = 0x08000000


MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


class ElfError(Exception):
    """A rule that the file breaks."""


def check(path: Path, forbidden: Iterable[str] = (), machine: str = "") -> None:
    """Raises ElfError with every rule broken. `forbidden`: texts that must not be in the file.
    `machine`: the processor that it has to be for, as uname(2) names it."""
    faults = [*_faults(path), *(_machine_faults(path, machine) if machine else ())]
    data = path.read_bytes()
    if len(data) > SIZE_MAX:
        faults.append(f"{len(data)} bytes, more than {SIZE_MAX}")
    faults += [f"contains the text {text!r}" for text in forbidden if text.encode() in data]
    if faults:
        raise ElfError(f"{path}: " + "; ".join(faults))


def _faults(path: Path) -> Iterable[str]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        if elf["e_type"] != "ET_DYN":
            yield f"type {elf['e_type']}, not position-independent"
        segments = list(elf.iter_segments())
        kinds = {segment["p_type"] for segment in segments}
        if "PT_INTERP" in kinds:
            yield "asks for a dynamic loader (PT_INTERP)"
        if "PT_GNU_RELRO" not in kinds:
            yield "no RELRO segment"
        if "PT_GNU_STACK" not in kinds:
            yield "no GNU_STACK segment"
        yield from _relocation_faults(segments)
        for segment in segments:
            flags = segment["p_flags"]
            if segment["p_type"] == "PT_GNU_STACK" and flags & _PF_X:
                yield "executable stack"
            if segment["p_type"] == "PT_LOAD":
                yield from _segment_faults(segment)
            if isinstance(segment, DynamicSegment):
                yield from _dynamic_faults(segment)
        if elf.get_section_by_name(".symtab") is not None:
            yield "not stripped"


def _machine_faults(path: Path, machine: str) -> Iterable[str]:
    with path.open("rb") as file:
        found = ELFFile(file)["e_machine"]
    if found != MACHINES.get(machine):
        yield f"for {found}, not for {machine}"


def _segment_faults(segment: Segment) -> Iterable[str]:
    flags, at = segment["p_flags"], segment["p_vaddr"]
    if flags & _PF_X and flags & _PF_W:
        yield f"segment at {at:#x} is writable and executable"
    if segment["p_filesz"] and (segment["p_offset"] - at) % max(segment["p_align"], 1):
        yield f"segment at {at:#x} cannot be mapped from {segment['p_offset']:#x}"


def _relocation_faults(segments: Sequence[Segment]) -> Iterable[str]:
    """Each must lie in memory that is writable and has content in the file: so none is in the
    snapshot's window, which libc would fill page by page."""
    writable = [
        range(segment["p_vaddr"], segment["p_vaddr"] + segment["p_filesz"])
        for segment in segments
        if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & _PF_W
    ]
    for segment in segments:
        if not isinstance(segment, DynamicSegment):
            continue
        for name, table in segment.get_relocation_tables().items():
            for relocation in table.iter_relocations():
                if name != "RELR" and not relocation["r_info_type"]:
                    continue  # R_*_NONE: ld leaves such where it dropped one
                at = relocation["r_offset"]
                if not any(at in part for part in writable):
                    yield f"a relocation of {name} at {at:#x}, outside of what can be written"
                    break


def _dynamic_faults(segment: DynamicSegment) -> Iterable[str]:
    tags = list(segment.iter_tags())
    for tag in tags:
        if tag.entry.d_tag == "DT_NEEDED":
            yield f"needs the library {tag.needed}"
        if tag.entry.d_tag in {"DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"}:
            yield f"has {tag.entry.d_tag}"
    flags = sum(tag.entry.d_val for tag in tags if tag.entry.d_tag == "DT_FLAGS_1")
    if not flags & _DF_1_PIE:
        yield "not marked as PIE"
