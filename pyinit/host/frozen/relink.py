# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The second link: of the same objects, without what only the start of the interpreter needs.

The first link has all, and the snapshot is taken of it. From then on the interpreter's variables
have their content from the snapshot, and no relocation of theirs counts any more. So the second
link is of the same objects without these relocations. Its roots are the entry point, and each
function and constant that a pointer of the snapshot leads to. ld's own --gc-sections finds what
these need, and leaves out the rest.

The window lies at the same place in both, with the same variable at each address, so that pointers
into it stay as they are. The others lead to where the second link's map has the same section. Of
texts, which ld merges, the second link gets those that are pointed to by their content.
"""

import itertools
import re
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pyinit.host.frozen.image import HUGE, PAGE
from pyinit.host.frozen.snapshot import Snapshot

# Of csrc/runtime/take.c: what a file without a snapshot does. The second link has a stand-in.
TAKE = "take_snapshot"

# What objcopy does for it: no variable of the window (window.ld) has relocations.
FORGET = [
    f"--remove-relocations={pattern}" for pattern in (".data*", ".PyRuntime", "!.data.rel.ro*")
]

_WINDOW, _ALLOCATORS, _TABLE = ".window", ".allocators", "cfs_texts"
# Output sections that a pointer may lead to, and which are linked anew.
_MOVED = (".text", ".rodata", ".data.rel.ro")
_CONTENT = re.compile(
    r"^ ?(?P<section>[.\w$-]+)\s+0x(?P<address>[0-9a-f]+)\s+0x(?P<size>[0-9a-f]+)"
    r"(?: (?P<file>.+))?$"
)
# Sections of which ld keeps one of equal pieces: the map does not say where a piece is.
_MERGED = re.compile(r"\.(str|cst)(\d+)(\.\d+)?$")


Text = tuple[int, bytes]
"""The bytes of a character, and the text."""


class RelinkError(Exception):
    """The two links do not fit together."""


@dataclass(frozen=True, order=True)
class Input:
    """A section of an object file, and where the link has it."""

    address: int
    size: int
    output: str
    file: str  # as a linker script names it: a pattern
    section: str

    @property
    def end(self) -> int:
        return self.address + self.size

    @property
    def name(self) -> tuple[str, str]:
        return self.file, self.section


def inputs(link_map: Path, work: Path) -> list[Input]:
    """What the map says of each section that is not empty, by address.

    `work` is where our own objects are: files below it are named from there.
    """
    text = link_map.read_text().partition("\nLinker script and memory map\n")[2]
    # A long name has a line of its own.
    text = re.sub(r"^( ?[.\w$-]+)\n +(?=0x)", r"\1 ", text, flags=re.MULTILINE)
    found, output = [], ""
    for line in text.splitlines():
        content = _CONTENT.match(line)
        if not content:
            continue
        if not line.startswith(" "):
            output = content["section"]
        elif content["file"] and int(content["size"], 16):
            address, size = int(content["address"], 16), int(content["size"], 16)
            file = _pattern(content["file"], work)
            found.append(Input(address, size, output, file, content["section"]))
    # Of merged sections the map tells sizes that they do not have: they end where the next begins.
    clipped = [
        replace(part, size=following.address - part.address)
        if part.output == following.output and part.address <= following.address < part.end
        else part
        for part, following in itertools.pairwise(found)
    ]
    return sorted(part for part in [*clipped, *found[-1:]] if part.size)


def _pattern(file: str, work: Path) -> str:
    path, _, member = file.removesuffix(")").partition("(")
    if not member and Path(path).is_relative_to(work):
        return f"*/{Path(path).relative_to(work)}"
    return f"*/{Path(path).name}:{member}" if member else f"*/{Path(path).name}"


class Links:
    """The first link and, of what the snapshot's pointers lead to, the roots of the second."""

    def __init__(self, found: Sequence[Input], program: Path, snapshot: Snapshot) -> None:
        """`program`: the first link, of which the snapshot was taken. RelinkError."""
        self.window = [part for part in found if part.output == _WINDOW]
        self.allocators = [part for part in found if part.output == _ALLOCATORS]
        self._snapshot = snapshot
        self._sections = _Sections(found)
        self._merged = [part for part in found if _MERGED.search(part.section)]
        self._program = _Constants(program)
        inside = range(self.window[0].address, self.window[0].address + len(snapshot.words) * 8)
        self.targets = {
            target for _, target in snapshot.targets() if not inside[0] <= target <= inside.stop
        }
        self.roots: dict[int, Input] = {}
        texts: dict[Text, list[int]] = {}
        for target in sorted(self.targets):
            if part := self._sections.at(target):
                self.roots[target] = part
            else:
                texts.setdefault(self._text(target), []).append(target)
        self.texts = texts
        names = Counter(part.name for part in {*self.roots.values()})
        if twice := [name for name, count in names.items() if count > 1]:
            raise RelinkError(f"sections with one name: {twice}")

    def _text(self, target: int) -> Text:
        for part in self._merged:
            kind = _MERGED.search(part.section)
            if kind and kind[1] == "str" and part.address <= target < part.end:
                return self._program.text(target, int(kind[2]))
        raise RelinkError(f"the snapshot points to {target:#x}, where no section is")

    def script(self) -> str:
        """The second link's, to be added to the linker's own."""
        roots = sorted({part for part in self.roots.values() if part.output in _MOVED})
        lines = [
            f"SECTIONS {{ {output}.cfs : {{ "
            + " ".join(_keep(part) for part in roots if part.output == output)
            + f" }} }} INSERT BEFORE {output};"
            for output in _MOVED
        ]
        start = self.window[0].address
        size = len(self._snapshot.words) * 8
        lines += [
            "SECTIONS {",
            f"{_ALLOCATORS} (NOLOAD) : {{ cfs_allocators_start = .;",
            *(_keep(part) for part in self.allocators),
            "cfs_allocators_end = .; }",
            f"{_WINDOW} {start:#x} : {{ cfs_window_start = .;",
            *(f". = {part.address - start:#x}; {_keep(part)}" for part in self.window),
            f". = ALIGN({PAGE}); cfs_heap_start = .;",
            f". = {HUGE:#x}; cfs_heap_end = .;",
            f". = {size:#x}; cfs_window_end = .; }}",
            "} INSERT AFTER .bss;",
            "SECTIONS { .modules (ALIGN(0x1000)) : { cfs_modules_start = .;",
            f"KEEP(*(.rodata.{_TABLE}))",
            ". = ALIGN(0x1000); cfs_modules_end = .; } } INSERT AFTER .window;",
        ]
        return "\n".join(lines) + "\n"

    def source(self) -> str:
        """C: the texts that the snapshot points to, and a stand-in for what only it needed."""
        assembly = [f'.section .rodata.{_TABLE},"a"', ".balign 4", f".globl {_TABLE}", f"{_TABLE}:"]
        assembly += [f".long .Lcfs{index} - {_TABLE}" for index in range(len(self.texts))]
        for index, (width, text) in enumerate(self.texts):
            data = ",".join(str(byte) for byte in (*text, *bytes(width)))
            assembly += [
                f'.section .rodata.cfs.str{width}.{width},"aMS",%progbits,{width}',
                f".balign {width}",
                f".Lcfs{index}: .byte {data}",
            ]
        quoted = [line.replace('"', '\\"') for line in [*assembly, ".text"]]
        return "\n".join(
            [
                "/* Generated by pyinit.host.frozen.relink. */",
                f"_Noreturn void __wrap_{TAKE}(void);",
                f"_Noreturn void __wrap_{TAKE}(void) {{ __builtin_trap(); }}",
                "__asm__(",
                *(f'"{line}\\n"' for line in quoted),
                ");",
                "",
            ]
        )

    def moved(self, found: Sequence[Input], program: Path) -> Snapshot:
        """The snapshot, with pointers to where things are in the second link, `program`."""
        self._check_window(found)
        places: dict[tuple[str, str], list[Input]] = {}
        for part in found:
            places.setdefault(part.name, []).append(part)
        new: dict[int, int] = {}
        for target, part in self.roots.items():
            others = places.get(part.name, [])
            if len(others) != 1 or others[0].size != part.size:
                raise RelinkError(
                    f"{part.file}({part.section}) is not in the second link, or twice"
                )
            new[target] = others[0].address + target - part.address
        constants = _Constants(program)
        for (text, targets), at in zip(
            self.texts.items(), constants.table(len(self.texts)), strict=True
        ):
            if constants.text(at, text[0]) != text:
                raise RelinkError(f"{text[1]!r} is not in the second link")
            new |= dict.fromkeys(targets, at)
        return self._snapshot.moved(new)

    def _check_window(self, found: Sequence[Input]) -> None:
        new = [part for part in found if part.output == _WINDOW]
        if new != self.window:
            differing = {part.name for part in {*new} ^ {*self.window}}
            raise RelinkError(f"the window of the second link differs: {sorted(differing)[:20]}")


def _keep(part: Input) -> str:
    return f"KEEP({part.file}({part.section}))"


class _Sections:
    """By address, what is not merged."""

    def __init__(self, found: Iterable[Input]) -> None:
        self._parts = [
            part
            for part in found
            if part.output in (*_MOVED, _ALLOCATORS) and not _MERGED.search(part.section)
        ]
        self._starts = [part.address for part in self._parts]

    def at(self, address: int) -> Input | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._parts[index].end:
            return self._parts[index]
        return None


class _Constants:
    """What a program has at an address."""

    def __init__(self, program: Path) -> None:
        with program.open("rb") as file:
            elf = ELFFile(file)
            self._parts = [
                (section["sh_addr"], section.data())
                for section in elf.iter_sections()
                if section["sh_addr"] and section["sh_type"] == "SHT_PROGBITS"
            ]
            table = elf.get_section_by_name(".symtab").get_symbol_by_name(_TABLE)
            self._table = table[0]["st_value"] if table else 0

    def _from(self, address: int) -> tuple[bytes, int]:
        for start, data in self._parts:
            if start <= address < start + len(data):
                return data, address - start
        raise RelinkError(f"nothing is at {address:#x}")

    def text(self, address: int, width: int) -> Text:
        data, at = self._from(address)
        end = at
        while any(data[end : end + width]):
            end += width
        return width, data[at:end]

    def table(self, count: int) -> list[int]:
        data, at = self._from(self._table)
        return [self._table + offset for offset in struct.unpack_from(f"<{count}i", data, at)]
