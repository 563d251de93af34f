# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The rooms: an import goes down, never back up, and tests and fuzzers stand where the sources do.

The lists are the house, from the roof to the ground. A new room gets its place in them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

INITRD = (
    "main", "programs", "boot", "second_initrd", "state", "handover", "source", "machine", "root",
    "kernel", "report",
)  # fmt: skip
HOST = (
    "commands", "mountd", "guest", "uki", "store", "config", "frozen", "atomic", "failure",
)  # fmt: skip
CSRC = ("extension", "runtime", "host", "system", "parse", "cfs.h")
# Rooms beside each other: none knows the other.
APART = ({"mountd", "uki", "store", "config", "frozen", "atomic", "failure"},)
ALLOWED = {("uki", "atomic"), ("store", "atomic"), ("uki", "failure"), ("store", "failure")}
# The interpreter loads it before there is anything to import with.
ALONE = "importer"


def room(path: Path, top: Path) -> str:
    """The folder below `top`, or the file where it stands in none."""
    parts = path.relative_to(top).parts
    return parts[0] if len(parts) > 1 or path.suffix == ".h" else path.stem


def imported(path: Path, package: str) -> Iterator[tuple[str, str]]:
    """(room, module) of each import of `package`, those for types alone too."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith(package + "."):
                yield name.split(".")[package.count(".") + 1], name


def sources(top: Path) -> list[Path]:
    return [path for path in sorted(top.rglob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize(("name", "floors"), [("initrd", INITRD), ("host", HOST)])
def test_an_import_goes_down(name: str, floors: tuple[str, ...]) -> None:
    top = ROOT / "pyinit" / name
    rooms = {room(path, top) for path in sources(top)} - {ALONE}
    assert rooms == set(floors)
    for path in sources(top):
        here = room(path, top)
        for there, module in imported(path, f"pyinit.{name}"):
            shown = f"{path.relative_to(ROOT)} imports {module}"
            assert here != ALONE, shown
            assert floors.index(there) >= floors.index(here), f"{shown}: back up"
            if name == "host" and here != there and {here, there} <= APART[0]:
                assert (here, there) in ALLOWED, shown


def test_the_initrd_knows_nothing_of_the_host() -> None:
    for path in sources(ROOT / "pyinit" / "initrd"):
        assert not list(imported(path, "pyinit.host")), path


@pytest.mark.parametrize("name", ["initrd", "host"])
def test_no_file_imports_itself_by_way_of_others(name: str) -> None:
    """Within a room too."""
    top = ROOT / "pyinit" / name
    known = {
        "pyinit." + path.relative_to(ROOT / "pyinit").with_suffix("").as_posix().replace("/", "."):
        path for path in sources(top)
    }  # fmt: skip
    below: dict[str, set[str]] = {}
    for module, path in known.items():
        names = {found for _, found in imported(path, f"pyinit.{name}")}
        below[module] = {found for found in names if found in known} | {
            found.rpartition(".")[0] for found in names if found.rpartition(".")[0] in known
        }
    left = dict(below)
    while left:
        free = [module for module, needs in left.items() if not needs & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for module in free:
            del left[module]


def test_a_room_says_what_it_knows() -> None:
    for name in ("initrd", "host"):
        for path in (ROOT / "pyinit" / name).glob("*/__init__.py"):
            assert ast.get_docstring(ast.parse(path.read_bytes())), path


def test_an_include_goes_down() -> None:
    """What parses enters no kernel: it includes no header of csrc/system. The engine of the host
    stands apart: it includes none of the core's, nor the core one of its."""
    top = ROOT / "csrc"
    for path in sorted(found for found in top.rglob("*") if found.suffix in (".c", ".cc", ".h")):
        here = room(path, top)
        for name in re.findall(r'^#include "(.+)"$', path.read_text(), re.MULTILINE):
            [target] = [found for found in (path.parent / name, top / name) if found.exists()] or [
                top / "generated"
            ]
            there = room(target.resolve(), top)
            assert CSRC.index(there) >= CSRC.index(here), f"{path}: {name}"
            assert (there == "host") == (here == "host"), f"{path}: {name}"


def test_what_parses_has_a_fuzzer_of_its_name() -> None:
    parsers = {path.stem for path in (ROOT / "csrc" / "parse").glob("*.c")} | {
        "dump",
        "erofs",
        "inflate",
        "tar",
    }
    fuzzers = {path.stem for path in (ROOT / "fuzz" / "c").glob("*.c*")}
    assert parsers == fuzzers - {"replay", "pe_mutator"}
    # Of the host's tools in Python, this one alone reads what anybody may write.
    names = {
        path.stem for top in ("initrd", "host/mountd") for path in sources(ROOT / "pyinit" / top)
    }
    assert {path.stem for path in (ROOT / "fuzz" / "harness").glob("[a-z]*.py")} <= names


# Of several sources, by what is done to them.
BY_KIND = {
    f"test_{name}"
    for name in (
        "seal_faults",
        "add_faults",
        "gc_faults",
        "cfs_uki_extensions",
        "gc_killed",
        "layers_faults",
        "scarce",
        "gc_beside",
        "make_image_peers",
        "make_image_roots",
        "cfsctl",
        "layers_gzip",
        "layers_peers",
        "layers_threads",
        "image_mkcomposefs",
        "image_peers",
        "image_rules",
        "formats",
    )
}


@pytest.mark.parametrize(
    ("tests", "tops", "helpers"),
    [
        ("initrd", ("pyinit/initrd",), set()),
        ("host", ("pyinit/host",), BY_KIND),
        ("core", ("csrc",), {"test_harness", "test_canary_writers", "test_pe_readers"}),
    ],
)
def test_tests_stand_where_the_sources_do(
    tests: str, tops: tuple[str, ...], helpers: set[str]
) -> None:
    for path in sorted((ROOT / "tests" / tests).rglob("test_*.py")):
        # The module as a whole is what the files of csrc/extension are tested by.
        if path.stem in helpers or path.match("extension/test_extension*"):
            continue
        below = path.relative_to(ROOT / "tests" / tests).parent
        name = path.stem.removeprefix("test_")
        found = [ROOT / top / below / f"{name}{suffix}" for top in tops for suffix in (".py", ".c")]
        assert any(file.exists() for file in found), f"{path.relative_to(ROOT)} is of no source"
