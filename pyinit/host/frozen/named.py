# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which names may be looked up when the executable runs.

A method that nobody can name is out of reach. Names come from two sides. Frozen code has them as
names, or as a text that is a name and nothing else, as in getattr() and in keyword arguments; names
put together of parts are refused by pyinit.host.frozen.sources. C code has them as texts and as the
interpreter's global identifiers. In a table of methods, getters
or members a text is not a use of the name but what gives it: these are told apart by the
relocations of the object files. Names with two underscores in front may be put together by C code,
and always count as used.
"""

import marshal
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import CodeType

from elftools.elf.elffile import ELFFile

_WORD = re.compile(r"[A-Za-z_]\w*")
_BYTES_WORD = re.compile(rb"[A-Za-z_]\w*")
_GLOBAL = re.compile(r"\bSTRUCT_FOR_(?:ID\((\w+)\)|STR\(\w+, \"(.*?)\"\))")
_GLOBALS = "internal/pycore_global_strings.h"

_MERGE, _STRINGS, _ALLOC, _EXECUTABLE = 0x10, 0x20, 0x2, 0x4
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_OBJECT = 1  # a kind of symbol
_RESERVED = 0xFF00  # from here on a number is no section's
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60

# The offsets of tp_methods, tp_members, tp_getset and m_methods, and the size of an entry of the
# tables: the same in 3.11 and 3.13. The sizes of PyTypeObject differ.
_TYPE_SIZES, _TYPE_TABLES = (408, 416), {232: 32, 240: 40, 248: 40}
_MODULE_SIZES, _MODULE_TABLES = (104,), {64: 32}


def of_code(data: bytes) -> Iterator[str]:
    """The names in a marshalled code object."""
    yield from _in_value(marshal.loads(data))


def _in_value(value: object) -> Iterator[str]:
    if isinstance(value, CodeType):
        for names in (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars):
            yield from names
        yield from _in_value(value.co_consts)
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            yield from _in_value(item)
    elif isinstance(value, str) and value.isidentifier():
        yield value


def of_interpreter(includes: Sequence[Path]) -> Iterator[str]:
    """Its global identifiers, which C code has as objects."""
    header = next(path for path in (place / _GLOBALS for place in includes) if path.exists())
    for name, text in _GLOBAL.findall(header.read_text()):
        yield from _WORD.findall(name or text)


# Where C code has a text that is the name of a function for its messages, or a table's entry.
_SAID_BEFORE = re.compile(r"(?:\b_?PyArg_\w+\([^()\";]*|\.fname = |\b_keywords, )$")
_ENTRY_BEFORE = re.compile(r"\{\s*$")
_ENTRY_AFTER = re.compile(
    r",\s*(?:\(PyCFunction|_PyCFunction_CAST|\(getter\)|T_|Py_T_|\w+,\s*METH_)"
)
_LITERAL = re.compile(r'"([A-Za-z_]\w*)"')
_ROOMS = ("Include", "Modules", "Objects", "Parser", "Python")


def only_said(tree: Path) -> set[str]:
    """The texts that C code has for messages about its arguments and for tables, and no others.

    By the source, in which each such text stands right where it is used.
    """
    said: set[str] = set()
    used: set[str] = set()
    for room in _ROOMS:
        for path in (tree / room).rglob("*.[ch]"):
            text = path.read_text(errors="replace")
            for found in _LITERAL.finditer(text):
                before = text[max(0, found.start() - 100) : found.start()]
                entry = _ENTRY_BEFORE.search(before) and _ENTRY_AFTER.match(text, found.end())
                (said if entry or _SAID_BEFORE.search(before) else used).add(found[1])
    return said - used


def of_objects(files: Iterable[Path]) -> Iterator[str]:
    """The texts of objects and archives that can be names, but for those that tables define."""
    objects = [_Object(data) for file in files for data in _members(file.read_bytes())]
    defined = {name: (found, *place) for found in objects for name, place in found.defined.items()}
    tables: set[tuple[int, int, int]] = set()  # object, section, offset: the text of a name
    for found in objects:
        for start, size in found.tables():
            place = found.target(start, defined)
            if place:
                holder, section, offset = place
                tables |= {
                    (id(holder), section, at)
                    for at in range(offset, holder.symbol_end(section, offset), size)
                }
    for found in objects:
        yield from found.words({place[1:] for place in tables if place[0] == id(found)})


def _members(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_AR_MAGIC):
        yield data
        return
    at = len(_AR_MAGIC)
    while at < len(data):
        name, size = data[at : at + 16].rstrip(), int(data[at + 48 : at + 58])
        at += _AR_HEADER
        if name not in (b"/", b"//", b"/SYM64/"):
            yield data[at : at + size]
        at += size + size % 2


Place = tuple["_Object", int, int]
"""An object, its section, the offset there."""


class _Object:
    def __init__(self, data: bytes) -> None:
        elf = ELFFile(BytesIO(data))
        self._sections = [(section.header, section) for section in elf.iter_sections()]
        table = elf.get_section_by_name(".symtab")
        self._symbols: list[tuple[int, ...]] = []
        self._names: list[str] = []
        self.defined: dict[str, tuple[int, int]] = {}
        self._relocations: dict[int, dict[int, tuple[int, int]]] = {}
        if table is None:  # an object without anything
            return
        names = elf.get_section(table["sh_link"])
        self._symbols = list(_SYMBOL.iter_unpack(table.data()))
        self._names = [names.get_string(symbol[0]) for symbol in self._symbols]
        self.defined = {
            name: (symbol[3], symbol[4])
            for name, symbol in zip(self._names, self._symbols, strict=True)
            if symbol[1] >> 4 and 0 < symbol[3] < _RESERVED
        }
        for header, section in self._sections:
            if header["sh_type"] == "SHT_RELA":
                self._relocations[header["sh_info"]] = {
                    at: (info >> 32, addend)
                    for at, info, addend in _RELA.iter_unpack(section.data())
                }

    def symbol_end(self, section: int, offset: int) -> int:
        """Of the variable that starts there."""
        ends = [s[4] + s[5] for s in self._symbols if s[3] == section and s[4] == offset and s[5]]
        return max(ends, default=offset)

    def tables(self) -> Iterator[tuple[tuple[int, int], int]]:
        """The relocations that lead to tables, and the size of an entry there."""
        for _, info, _, section, value, size in self._symbols:
            if info & 15 != _OBJECT:
                continue
            for sizes, fields in ((_TYPE_SIZES, _TYPE_TABLES), (_MODULE_SIZES, _MODULE_TABLES)):
                if size in sizes:
                    for field, entry in fields.items():
                        relocation = self._relocations.get(section, {}).get(value + field)
                        if relocation:
                            yield relocation, entry

    def target(self, relocation: tuple[int, int], defined: dict[str, Place]) -> Place | None:
        symbol, addend = relocation
        _, _, _, section, value, _ = self._symbols[symbol]
        if 0 < section < _RESERVED:
            return self, section, value + addend
        if place := defined.get(self._names[symbol]):
            return place[0], place[1], place[2] + addend
        return None

    def words(self, tables: set[tuple[int, int]]) -> Iterator[str]:
        """Texts that are referred to, but from those places, and texts that are arrays."""
        for section, relocations in self._relocations.items():
            flags = self._sections[section][0]["sh_flags"]
            if flags & _ALLOC:
                for at, relocation in relocations.items():
                    if (section, at) not in tables:
                        yield from self._texts(relocation, 8 if flags & _EXECUTABLE else 0)
        for header, content in self._sections:
            flags = header["sh_flags"] & (_ALLOC | _EXECUTABLE | _MERGE)
            if header["sh_type"] == "SHT_PROGBITS" and flags == _ALLOC:
                for word in _BYTES_WORD.findall(content.data()):
                    yield word.decode()

    def _texts(self, relocation: tuple[int, int], behind: int) -> Iterator[str]:
        """What it may refer to: an instruction counts to its own end, some bytes behind."""
        _, _, _, section, value, _ = self._symbols[relocation[0]]
        if not 0 < section < _RESERVED:
            return
        header, content = self._sections[section]
        if not header["sh_flags"] & _STRINGS:
            return
        data = content.data()
        for more in range(behind + 1):
            start = value + relocation[1] + more
            if 0 <= start < len(data) and (not start or not data[start - 1]):
                end = data.find(b"\0", start)
                if _BYTES_WORD.fullmatch(data, start, end):
                    yield data[start:end].decode()
