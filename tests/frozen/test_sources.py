# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What may be frozen, and what freezing takes away."""

import ast
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.frozen import build, snapshot, sources, table
from tests.frozen.conftest import ROOT

TEXT = '''\
"""Module."""
TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike


def f(a: "PathLike[str]", *rest: int, key: str = "k") -> str:
    """Function,
    of two lines."""
    local: int = 1
    bare: list[int]
    return f"{a}{key}{local}"


class C:
    """Class."""

    attribute: int = 2
    declared: str

    def empty(self) -> None:
        """Nothing else."""


if TYPE_CHECKING:
    pass
else:
    chosen = 1
'''


def source(tmp_path: Path, text: str, name: str = "pyinit.initrd.x") -> sources.Source:
    path = tmp_path / "x.py"
    path.write_text(text)
    return sources.Source(name, path, "x.py")


def fault(tmp_path: Path, text: str, name: str = "pyinit.initrd.x") -> str:
    module = source(tmp_path, text, name)
    with pytest.raises(sources.FreezeError) as raised:
        sources.check(module, sources.parse(module), {"pyinit", "pyinit.initrd", "pyinit.initrd.x"})
    return str(raised.value)


def test_readers_things_are_stripped(tmp_path: Path) -> None:
    tree = sources.parse(source(tmp_path, TEXT))
    left = ast.unparse(tree)
    for gone in ("Module.", "Function", "Class.", "Nothing else", "PathLike", "int", "str"):
        assert gone not in left
    assert "TYPE_CHECKING" in left.splitlines()[0]


def test_what_is_left_means_the_same_and_stands_where_it_stood(tmp_path: Path) -> None:
    code = compile(sources.parse(source(tmp_path, TEXT)), "x.py", "exec")
    names: dict[str, object] = {}
    exec(code, names)
    function, cls = names["f"], names["C"]
    assert callable(function)
    assert function("a") == "ak1"
    assert function.__annotations__ == {}
    assert function.__doc__ is None
    assert getattr(cls, "attribute") == 2  # noqa: B009
    assert names["chosen"] == 1
    wanted = ("return f", "attribute", "chosen")
    assert {number_of(text) for text in wanted} <= lines_of(code)


def number_of(text: str) -> int:
    (found,) = (n for n, line in enumerate(TEXT.splitlines(), 1) if text in line)
    return found


def lines_of(code: CodeType) -> set[int]:
    found = {line for _, _, line in code.co_lines() if line}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= lines_of(constant)
    return found


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("import os", "x.py:1: imports os"),
        ("\n\ndef f():\n    from re import match", "x.py:4: imports re"),
        ("from . import errors", "relative"),
        ("import pyinit.host", "imports pyinit.host"),
        ("from pyinit import host", "imports pyinit.host"),
        ("from pyinit.initrd import missing", "imports pyinit.initrd.missing"),
        ("import _imp", "imports _imp"),
        ("from __future__ import annotations", "__future__"),
        ("print(1)", r"print()"),
        ("x = open", "open()"),
        ("eval('1')", "eval()"),
        ("exec('1')", "exec()"),
        ("def f():\n    return bytearray(1)", "x.py:2: bytearray()"),
        ("x = complex", "complex()"),
        ("x = 1j", "complex numbers"),
        ("import time\ntime.strftime('%c')", "x.py:2: time.strftime"),
        ("from time import sleep", "time.NAME"),
        ("async def f(): pass", "async"),
        ("import posix\nX = posix.getpid()", "x.py:2: posix.getpid() is called while"),
        ("class C:\n    x = int('1')", "x.py:2: int() is called while"),
        ("def f(a=list()): pass", "list() is called while"),
        ("f = lambda a=list(): a", "list() is called while"),
        ("@cache()\ndef f(): pass", "cache() is called while"),
        ("import posix\nX = posix.environ", "posix.environ is read while"),
        ("import sys\nX = sys.argv[0]", "sys.argv is read while"),
        ("import time\nnow = time.monotonic", "time.monotonic is read while"),
        ("def d(f): return f\n@d\ndef f(): pass", "x.py:2: d() is called while"),
        ("import posix\n@posix.unlink\nclass C: pass", "posix.unlink() is called while"),
        ("import posix\nposix.replace('a', 'b')", "posix.replace() is called while"),
        ("import posix as p\nX = p.environ", "x.py:1: a module by another name"),
        ("from posix import environ\nX = environ", "posix.environ taken out of its module"),
        ("def f():\n    from sys import argv", "x.py:2: sys.argv taken out of its module"),
        ("class C(metaclass=M): pass", "a metaclass"),
        ("class C:\n    def __init_subclass__(c): pass", "__init_subclass__() runs while"),
        ("with x: pass", "with: it calls while"),
        ("def f(a):\n    return a ** 2", "x.py:2: ** does not exist"),
        ("def f(a):\n    a **= 2", "x.py:2: ** does not exist"),
        ("def f(a):\n    return pow(a, 2)", "pow() does not exist"),
        ("def f(a):\n    return round(a)", "round() does not exist"),
        ("import sys\ndef f(a):\n    return sys.getsizeof(a)", "sys.getsizeof() does not exist"),
        ("def f(a):\n    return int(a, 7)", "int() to a base that"),
        ("def f(a, b):\n    return int(a, base=b)", "int() to a base that"),
        ("def f(a, b):\n    return getattr(a, b)", "x.py:2: getattr() of a name that is not"),
        ("def f(a, b):\n    setattr(a, b + 'c', 1)", "setattr() of a name that is not"),
        ("def f(a, b):\n    return hasattr(*a)", "hasattr() of a name that is not"),
        ("def f(a):\n    return '{0.real}'.format(a)", "format() of a text whose fields"),
        ("def f(a):\n    return a.format(1)", "format() of a text whose fields"),
        ("def f(a):\n    return '{real}'.format_map(a)", "format_map() of a text"),
    ],
)
def test_what_the_executable_lacks_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    assert rule in fault(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "import posix\ndef f():\n    return posix.getpid(), posix.environ",
        "f = lambda: list()",
        "class C:\n    def f(self):\n        return list()",
        "X = bytes(16), tuple(k.replace('-', '_') for k in ('a-b',))",
        "class C:\n    @property\n    def x(self): return 1",
        "def f(a):\n    return getattr(a, 'b'), '{:03d}'.format(a), int(a), int(a, 16)",
    ],
)
def test_what_functions_call_is_called_when_they_run(tmp_path: Path, text: str) -> None:
    module = source(tmp_path, text)
    sources.check(module, sources.parse(module), set())


def test_an_import_for_types_only_is_allowed(tmp_path: Path) -> None:
    module = source(tmp_path, "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import os\n")
    sources.check(module, sources.parse(module), set())


def test_all_of_the_initrd_keeps_the_rules() -> None:
    """Every import statement of every frozen file, in every branch."""
    modules = sources.collect(ROOT)
    names = {module.name for module in modules}
    assert {"pyinit", "pyinit.initrd", "pyinit.initrd.main", sources.IMPORTER} <= names
    assert not any(name.startswith("pyinit.host") for name in names)
    for module in modules:
        sources.check(module, sources.parse(module), sources.names(modules))


def test_the_table_of_builtins_is_that_of_the_check() -> None:
    text = (ROOT / "csrc" / "runtime" / "builtins.c").read_text()
    for name in sources.BUILTINS:
        assert f'{{"{name}", ' in text, name
    assert text.count('\t{"') == len(sources.BUILTINS)


def test_the_table_depends_on_the_sources_alone() -> None:
    first = table.render(table.compile_sources(sources.collect(ROOT)))
    assert first == table.render(table.compile_sources(sources.collect(ROOT)))


@given(lines=st.lists(st.integers(0, 40), min_size=1, max_size=30), width=st.integers(1, 30))
def test_a_table_of_lines_says_the_same_lines(lines: list[int], width: int) -> None:
    """Of code with long statements and gaps; line numbers in both directions."""
    text = "".join("\n" * gap + f"x = [{', '.join(['y'] * width)}]\n" for gap in lines)
    text += "x = (\n 1 +\n\n y(\n\n\n2))\n"
    code = compile(text, "x.py", "exec")
    thin = table._by_lines(code)
    assert by_unit(thin) == by_unit(code)
    assert len(thin.co_linetable) <= len(code.co_linetable)
    assert all(columns == (None, None) for *_, columns in positions(thin))


def by_unit(code: CodeType) -> list[int | None]:
    return [line for start, end, line in code.co_lines() for _ in range(start, end, 2)]


def positions(code: CodeType) -> list[tuple[int | None, tuple[int | None, int | None]]]:
    return [(line, (start, end)) for line, _, start, end in code.co_positions()]


def test_functions_within_have_such_tables_too() -> None:
    code = compile("def f():\n    return [x for x in g()]\n", "x.py", "exec")
    thin = table._by_lines(code)
    (inner,) = (value for value in thin.co_consts if isinstance(value, CodeType))
    assert all(columns == (None, None) for *_, columns in positions(inner))


def test_names_of_modules_in_c_are_listed(tmp_path: Path) -> None:
    text = "import posix\nfrom errno import EIO\nimport other\nposix.stat('/')\nother.name\n"
    found = sources.needed([sources.parse(source(tmp_path, text))])
    assert found == ["errno.EIO", "posix.stat"]


def test_a_name_that_the_interpreter_lacks_fails_the_build(kind: str, tmp_path: Path) -> None:
    """As posix.getxattr, which 3.11 has with glibc only: a boot found out."""
    program = tmp_path / "main.py"
    program.write_text("import posix\n\ndef main(arguments):\n    posix.no_such_call()\n")
    with pytest.raises(
        snapshot.SnapshotError, match=r"this interpreter has no posix\.no_such_call"
    ):
        build.build(ROOT, tmp_path / "out", replace={"pyinit.initrd.main": program}, kind=kind)
