# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The second link: what its map says, what it leaves out, and that pointers lead to the same."""

from array import array
from pathlib import Path

import pytest

from pyinit.host.frozen import build, interpreter, relink
from pyinit.host.frozen.relink import Input
from pyinit.host.frozen.snapshot import Snapshot
from tests.frozen.conftest import run

MAP = """\
Discarded input sections

 .text.gone     0x0000000000000000       0x10 /w/frozen/csrc/a.o

Linker script and memory map

.text           0x0000000000001000      0x100
 *(.text .stub .text.*)
 .text.short    0x0000000000001000       0x10 /w/frozen/csrc/a.o
 .text.a_name_that_is_long
                0x0000000000001010       0x20 /w/frozen/interpreter.a(b.o)
                0x0000000000001010                a_name_that_is_long

.rodata         0x0000000000002000      0x100
 .rodata.str1.1
                0x0000000000002000       0x50 /w/frozen/csrc/a.o
                                         0x60 (size before relaxing)
 .rodata.str1.1
                0x0000000000002050       0x50 /w/frozen/interpreter.a(b.o)
                                         0x20 (size before relaxing)
 .rodata.c      0x0000000000002050        0x8 /lib/musl/libc.a(c.lo)
"""


def test_the_map_is_read(tmp_path: Path) -> None:
    link_map = tmp_path / "map"
    link_map.write_text(MAP)
    assert relink.inputs(link_map, Path("/w/frozen")) == [
        Input(0x1000, 0x10, ".text", "*/csrc/a.o", ".text.short"),
        Input(0x1010, 0x20, ".text", "*/interpreter.a:b.o", ".text.a_name_that_is_long"),
        # The second has no size of its own: its texts are in the first.
        Input(0x2000, 0x50, ".rodata", "*/csrc/a.o", ".rodata.str1.1"),
        Input(0x2050, 0x8, ".rodata", "*/libc.a:c.lo", ".rodata.c"),
    ]


@pytest.fixture(name="links")
def built_links(executable: Path) -> relink.Links:
    """Of the build, with a snapshot that has one pointer: to a function."""
    work = executable.parent / "frozen"
    found = relink.inputs(work / "first.map", work)
    size = next(part.size for part in found if part.output == ".text")
    function = next(part for part in found if part.output == ".text" and part.size)
    assert size
    return relink.Links(found, work / f"{build.NAME}.first", one(function.address))


def one(target: int) -> Snapshot:
    return Snapshot(array("Q", [target, *[0] * ((2 << 17) - 1)]), [0], [])


def test_a_section_that_is_missing_is_told(links: relink.Links, executable: Path) -> None:
    window = list(links.window)
    with pytest.raises(relink.RelinkError, match="is not in the second link"):
        links.moved(window, executable.parent / f"{build.NAME}.debug")


def test_another_window_is_told(links: relink.Links, executable: Path) -> None:
    with pytest.raises(relink.RelinkError, match="the window of the second link differs"):
        links.moved(links.window[1:], executable.parent / f"{build.NAME}.debug")


def test_a_pointer_to_nothing_is_told(executable: Path) -> None:
    work = executable.parent / "frozen"
    found = relink.inputs(work / "first.map", work)
    with pytest.raises(relink.RelinkError, match="points to 0x10, where no section is"):
        relink.Links(found, work / f"{build.NAME}.first", one(0x10))


def test_what_nobody_can_name_is_left_out(executable: Path, kind: str) -> None:
    if kind == interpreter.DISTRIBUTION:
        pytest.skip("its objects have one section for all functions")
    symbols = {
        name: set(run("nm", "--format=just-symbols", path).stdout.split())
        for name, path in (
            ("first", executable.parent / "frozen" / f"{build.NAME}.first"),
            ("second", executable.parent / f"{build.NAME}.debug"),
        )
    }
    gone = {
        "Py_InitializeFromConfig", "take_snapshot", "os_chroot", "float_pow", "prune_names",
        "bytearray_repr", "complex_repr", "hamt_alloc", "odict_repr", "coro_repr",
    }  # fmt: skip
    kept = {"os_mkdir", "unicode_split", "list_sort_impl", "PyType_Ready"}
    assert gone | kept <= symbols["first"]
    assert kept <= symbols["second"]
    assert not gone & symbols["second"]
