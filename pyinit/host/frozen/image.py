# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Puts a snapshot into the executable that it was taken of.

The window's content leaves its place: the window becomes memory without content, in a segment of
its own whose alignment is that of a huge page, with which it begins. The content's pages come into
a segment that is read only, at the end of the file, behind the table by which
csrc/runtime/snapshot.c copies them. The relative relocations of the window (ELF's RELR and RELA)
go: its pointers get their load address with the copy.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pyinit.host.frozen.snapshot import Snapshot

PAGE = 4096
HUGE = 2 << 20
_WORD = 8
_MAP_WORDS = PAGE // _WORD // 64

_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_PHDR = 1, 2, 4, 6
_PT_GNU_RELRO = 0x6474E552
_PF_X, _PF_W, _PF_R = 1, 2, 4
_DT_PLTRELSZ, _DT_JMPREL = 2, 23
_DT_RELA, _DT_RELASZ, _DT_RELRSZ, _DT_RELR, _DT_RELACOUNT = 7, 8, 35, 36, 0x6FFFFFF9
# x86-64 and arm64
_R_RELATIVE = frozenset({8, 1027})
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_RELA = struct.Struct("<QQq")


class ImageError(Exception):
    """An executable that is not as the linker scripts of csrc/runtime make it."""


_SYMBOLS = (
    "cfs_window_start", "cfs_window_end", "cfs_snapshot", "cfs_modules_start", "cfs_modules_end",
    "cfs_allocators_start", "cfs_allocators_end",
)  # fmt: skip
# What the interpreter calls its texts for help().
_DOCUMENTATION = re.compile(r"(__doc__|_doc)$")


@dataclass(frozen=True)
class Places:
    """Addresses of what the symbols name: offsets from the image's start."""

    window: int
    end: int
    header: int
    modules: range
    allocators: range
    documentation: Sequence[range]
    template: range  # the interpreter's variables as they are before it starts

    @classmethod
    def of(cls, debug: Path) -> "Places":
        """Read from the file that still has its symbols. ImageError: one is missing."""
        found: dict[str, int] = {}
        documentation, templates, size = [], [], 0
        with debug.open("rb") as file:
            elf = ELFFile(file)
            constants = elf.get_section_index(".rodata")
            for symbol in elf.get_section_by_name(".symtab").iter_symbols():
                name, start = symbol.name, symbol["st_value"]
                part = range(start, start + symbol["st_size"])
                if name in _SYMBOLS:
                    found[name] = start
                elif name == "_PyRuntime":
                    size = len(part)
                elif name == "initial":  # libc has one too
                    templates.append(part)
                elif symbol["st_shndx"] == constants and _DOCUMENTATION.search(name):
                    documentation.append(part)
        templates = [part for part in templates if len(part) == size]
        missing = [name for name in _SYMBOLS if name not in found]
        if len(templates) > 1:
            missing.append("initial")
        template = templates[0] if templates else range(0)
        if missing:
            raise ImageError(f"{debug}: no symbol {', '.join(missing)}")
        window, end, header, *parts = (found[name] for name in _SYMBOLS)
        modules, allocators = range(*parts[:2]), range(*parts[2:])
        return cls(window, end, header, modules, allocators, documentation, template)


@dataclass(frozen=True)
class _Segment:
    """A program header, and for PT_LOAD the content."""

    type: int
    flags: int
    address: int
    size: int  # in memory
    align: int
    in_file: int = 0
    offset: int = 0
    data: bytes = b""

    @property
    def end(self) -> int:
        return self.address + self.size


def targets(path: Path, places: Places) -> list[range]:
    """What a pointer of the window may point to: code, constants, the window itself, and the
    variables of allocators that are not used.

    Not libc's variables, which lie between the read-only part of the writable segment and the
    window: a snapshot that points there holds something of libc's.
    """
    segments = _read(path.read_bytes())
    loads = [segment for segment in segments if segment.type == _PT_LOAD]
    fixed = [
        range(load.address, load.end)
        for load in loads
        if not load.flags & _PF_W and load.end <= places.window
    ]
    relro = [range(s.address, s.end) for s in segments if s.type == _PT_GNU_RELRO]
    return [*fixed, *relro, places.allocators, range(places.window, places.end)]


def forget_documentation(raw: Path, places: Places) -> None:
    """Makes the interpreter's texts for help() empty, before it starts and makes objects of them.

    It is what a build of the interpreter without them has: empty strings at the same places.
    """
    memory = _Memory([s for s in _read(raw.read_bytes()) if s.type == _PT_LOAD])
    for part in places.documentation:
        memory.put(part.start, bytes(len(part)))
    with raw.open("r+b") as file:
        for offset, data in memory.contents():
            file.seek(offset)
            file.write(data)


def write(raw: Path, out: Path, places: Places, snapshot: Snapshot) -> None:
    """Makes of `raw`, which is stripped, the executable `out`.

    ImageError where `raw` is not as the linker scripts make it.
    """
    file = raw.read_bytes()
    segments = _read(file)
    loads = [segment for segment in segments if segment.type == _PT_LOAD]
    # One segment or two, as the linker likes: the window and the modules.
    kept = [segment for segment in loads if segment.end <= places.window]
    last = loads[len(kept) :]
    found = last and (last[0].address, last[0].address % HUGE, last[-1].end)
    if found != (places.window, 0, places.modules.stop):
        raise ImageError(f"{raw}: window and modules are not alone at the end")

    memory = _Memory(loads)
    _drop_relocations(memory, segments, [range(places.window, places.end), places.template])
    # Copied where the interpreter starts again in the same process, which this one never does.
    memory.put(places.template.start, bytes(len(places.template)))
    header, template = _template(places, snapshot)
    memory.put(places.header, header)
    result = [
        *(replace(segment, data=bytes(memory.of(segment))) for segment in kept),
        _Segment(_PT_LOAD, _PF_R | _PF_W, places.window, places.end - places.window, HUGE),
        _Segment(_PT_LOAD, _PF_R, places.end, len(template), last[0].align, data=template),
    ]
    others = [s for s in segments if s.type not in {_PT_LOAD, _PT_NOTE, _PT_PHDR}]
    out.write_bytes(_laid_out(file[: _HEADER.size], result, others))
    out.chmod(0o755)


class _Memory:
    """The contents of the segments, by address."""

    def __init__(self, loads: Sequence[_Segment]) -> None:
        self._loads = {segment: bytearray(segment.data) for segment in loads}

    def of(self, segment: _Segment) -> bytearray:
        return self._loads[segment]

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """Each segment's offset in the file it was read from, and its bytes."""
        for segment, data in self._loads.items():
            yield segment.offset, bytes(data)

    def _find(self, address: int, size: int) -> tuple[bytearray, int]:
        for segment, data in self._loads.items():
            at = address - segment.address
            if at >= 0 and at + size <= len(data):
                return data, at
        raise ImageError(f"{size} bytes at {address:#x} are not in the file")

    def get(self, address: int, size: int) -> bytes:
        data, at = self._find(address, size)
        return bytes(data[at : at + size])

    def put(self, address: int, new: bytes) -> None:
        data, at = self._find(address, len(new))
        data[at : at + len(new)] = new


def _read(file: bytes) -> list[_Segment]:
    fields = _HEADER.unpack_from(file)
    at, size, count = fields[5], fields[9], fields[10]
    if size != _PROGRAM_HEADER.size:
        raise ImageError(f"program headers of {size} bytes")
    found = []
    for index in range(count):
        type_, flags, offset, address, _, in_file, in_memory, align = _PROGRAM_HEADER.unpack_from(
            file, at + index * size
        )
        data = file[offset : offset + in_file] if type_ == _PT_LOAD else b""
        found.append(_Segment(type_, flags, address, in_memory, align, in_file, offset, data))
    return found


def _drop_relocations(
    memory: _Memory, segments: Sequence[_Segment], parts: Sequence[range]
) -> None:
    """Of the relative relocations, those in these parts. No other kind may be there."""
    (dynamic,) = (segment for segment in segments if segment.type == _PT_DYNAMIC)

    def inside(address: int) -> bool:
        return any(address in part for part in parts)

    tags: dict[int, tuple[int, int]] = {}  # tag: where its value is, and the value
    for at in range(dynamic.address, dynamic.end, 2 * _WORD):
        tag, value = struct.unpack("<qQ", memory.get(at, 2 * _WORD))
        tags.setdefault(tag, (at + _WORD, value))
    if _DT_JMPREL in tags:
        start, size = tags[_DT_JMPREL][1], tags[_DT_PLTRELSZ][1]
        if any(inside(at) for at, _, _ in _RELA.iter_unpack(memory.get(start, size))):
            raise ImageError("the window has an address that libc chooses for the processor")
    if _DT_RELR in tags:
        start, size = tags[_DT_RELR][1], tags[_DT_RELRSZ][1]
        words = struct.unpack(f"<{size // _WORD}Q", memory.get(start, size))
        kept = encode_relr([at for at in decode_relr(words) if not inside(at)])
        if len(kept) > len(words):
            raise ImageError("the table of relative relocations grew")
        filled = [*kept, *[0] * (len(words) - len(kept))]
        memory.put(start, struct.pack(f"<{len(filled)}Q", *filled))
        memory.put(tags[_DT_RELRSZ][0], struct.pack("<Q", len(kept) * _WORD))
    if _DT_RELA in tags:
        start, size = tags[_DT_RELA][1], tags[_DT_RELASZ][1]
        entries = list(_RELA.iter_unpack(memory.get(start, size)))
        if strange := {entry[1] for entry in entries if inside(entry[0])} - _R_RELATIVE:
            raise ImageError(f"the window has relocations of kind {strange}")
        left = [entry for entry in entries if not inside(entry[0])]
        packed = b"".join(_RELA.pack(*entry) for entry in left)
        memory.put(start, packed.ljust(size, b"\0"))
        memory.put(tags[_DT_RELASZ][0], struct.pack("<Q", len(packed)))
        if _DT_RELACOUNT in tags:
            count = sum(entry[1] in _R_RELATIVE for entry in left)
            memory.put(tags[_DT_RELACOUNT][0], struct.pack("<Q", count))


def decode_relr(words: Sequence[int]) -> Iterator[int]:
    """The addresses of a RELR table: https://maskray.me/blog/2021-10-31-relative-relocations-and-relr"""
    following = 0
    for word in words:
        if not word & 1:
            yield word
            following = word + _WORD
            continue
        for bit in range(1, 64):
            if word >> bit & 1:
                yield following + (bit - 1) * _WORD
        following += 63 * _WORD


def encode_relr(addresses: Sequence[int]) -> list[int]:
    """The RELR table of addresses, which are aligned and ascend."""
    result: list[int] = []
    index = 0
    while index < len(addresses):
        result.append(addresses[index])
        following = addresses[index] + _WORD
        index += 1
        while True:
            word = 0
            while index < len(addresses) and addresses[index] < following + 63 * _WORD:
                word |= 2 << (addresses[index] - following) // _WORD
                index += 1
            if not word:
                break
            result.append(word | 1)
            following += 63 * _WORD
    return result


def _template(places: Places, snapshot: Snapshot) -> tuple[bytes, bytes]:
    """`struct header` of csrc/runtime/snapshot.c, and the segment that it speaks of."""
    content = snapshot.tobytes()
    filled = [at for at in range(0, len(content), PAGE) if any(content[at : at + PAGE])]
    maps = {at: [0] * _MAP_WORDS for at in filled}
    for at in snapshot.pointers:
        bit = at % PAGE // _WORD
        maps[at - at % PAGE][bit // 64] |= 1 << bit % 64
    runs: list[list[int]] = []  # window, template, pages
    for index, at in enumerate(filled):
        if runs and runs[-1][0] + runs[-1][2] * PAGE == places.window + at:
            runs[-1][2] += 1
        else:
            runs.append([places.window + at, places.end + index * PAGE, 1])
    pages = b"".join(content[at : at + PAGE] for at in filled)
    parts = [
        pages,
        b"".join(struct.pack("<3Q", *run) for run in runs),
        b"".join(struct.pack(f"<{_MAP_WORDS}Q", *maps[at]) for at in filled),
        b"".join(struct.pack("<Q", places.window + at) for at in snapshot.odd_pointers),
    ]
    starts = [places.end + sum(len(part) for part in parts[:index]) for index in range(len(parts))]
    header = struct.pack(
        "<5Q", starts[1], len(runs), starts[2], starts[3], len(snapshot.odd_pointers)
    )
    return header, b"".join(parts)


def _laid_out(start: bytes, loads: Sequence[_Segment], others: Sequence[_Segment]) -> bytes:
    """The file: contents at offsets that agree with their addresses, then new program headers."""
    body = bytearray()
    offsets: dict[_Segment, int] = {}
    for segment in loads:
        if segment.data:
            # Pages of the kernel may be larger than ours (arm64): the segment says how large.
            offsets[segment] = len(body) + (segment.address - len(body)) % max(segment.align, PAGE)
            body.extend(b"\0" * (offsets[segment] - len(body)))
            body.extend(segment.data)
        else:
            offsets[segment] = 0
    entries = []
    for segment in [*loads, *others]:
        holder = segment
        if segment in others and segment.size and segment.address:
            holder = next(s for s in loads if s.address <= segment.address < s.end)
        offset = offsets.get(holder, 0) + segment.address - holder.address
        in_file = len(segment.data) if segment in loads else segment.in_file
        entries.append(
            _PROGRAM_HEADER.pack(
                segment.type, segment.flags, offset, segment.address, segment.address,
                in_file, segment.size, segment.align,
            )
        )  # fmt: skip
    fields = list(_HEADER.unpack(start))
    table = b"".join(entries)
    if len(entries) > fields[10]:
        raise ImageError(f"{len(entries)} program headers, there is room for {fields[10]}")
    # No section headers: tools that make a file anew of its sections, as strip does (dracut runs it
    # on all of an initrd), refuse it then, and do not leave the snapshot out.
    fields[6] = 0
    fields[10], fields[11], fields[12], fields[13] = len(entries), 64, 0, 0
    body[: _HEADER.size] = _HEADER.pack(*fields)
    body[fields[5] : fields[5] + len(table)] = table
    return bytes(body)
