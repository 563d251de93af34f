# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is frozen, and the rules that frozen code must keep."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# The modules in C of csrc/runtime/builtins.c. Of them, `_imp` is the importer's alone.
BUILTINS = frozenset({"_cfs", "_imp", "builtins", "errno", "posix", "sys", "time"})

# What csrc/runtime/time.c has of the module `time`.
TIME = frozenset({"monotonic", "sleep"})

# Frozen under the name by which the interpreter asks for its import system.
IMPORTER = "pyinit.initrd.importer"
IMPORTER_NAME = "_frozen_importlib"

# The codec registry (wanted by error handlers such as backslashreplace) imports this name once
# and is content with an empty module: utf-8, ascii and latin-1 are in the interpreter's core.
EMPTY = "encodings"

# They need what is left out of the interpreter: parser, compiler, standard streams (absent.c).
# The mathematics of pow() and round() are left out, and some types (csrc/runtime/types.c).
ABSENT = frozenset(
    "breakpoint bytearray compile complex eval exec input open pow print round".split()
)

# Of int(text, BASE): others need logarithms.
BASES = frozenset({2, 4, 8, 10, 16, 32})


# Modules are imported when the executable is built (csrc/runtime/snapshot.c), and what they call
# then is computed there and then. These give the same result everywhere.
AT_IMPORT = frozenset({"bytes", "classmethod", "property", "staticmethod", "str.replace", "tuple"})
# Of the process that runs, and not yet there.
OF_THE_PROCESS = frozenset({"posix.environ", "sys.argv", "time.monotonic"})
# Names by which the interpreter's types are asked have to stand in the code (named.py). In these
# modules they may be put together: they are of our own objects, and of modules.
NAMES_OF_OURS = frozenset(
    {"pyinit.initrd.programs.mount_options", "pyinit.initrd.source.config", IMPORTER}
)
BY_NAME = frozenset({"delattr", "getattr", "hasattr", "setattr"})
# They run while a class is made.
WITH_A_CLASS = frozenset({"__init_subclass__", "__set_name__"})


class FreezeError(Exception):
    """A source that cannot be frozen: file, line and rule."""


@dataclass(frozen=True)
class Source:
    """A module to freeze."""

    name: str  # as imported
    path: Path
    shown: str  # co_filename: relative, so that builds do not depend on where they are made

    @property
    def package(self) -> bool:
        return self.path.name == "__init__.py"


def collect(root: Path, replace: dict[str, Path] | None = None) -> list[Source]:
    """`pyinit` and `pyinit.initrd.*` below `root`, sorted by name.

    `replace` maps names to files that stand in for, or are added to, those found (tests).
    """
    files = [root / "pyinit" / "__init__.py", *(root / "pyinit" / "initrd").rglob("*.py")]
    found: dict[str, Source] = {}
    for path in files:
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Source(name, path, relative.as_posix())
    for name, path in (replace or {}).items():
        found[name] = Source(name, path, path.name)
    return [found[name] for name in sorted(found)]


def names(modules: list[Source]) -> set[str]:
    """What import statements may name: the modules, and `package.NAME` of what packages assign."""
    found = {module.name for module in modules}
    for module in modules:
        if module.package:
            for node in ast.walk(parse(module)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    found.add(f"{module.name}.{node.id}")
    return found


def parse(source: Source) -> ast.Module:
    """The syntax tree as it will be compiled: without annotations, docstrings, typing blocks."""
    tree = ast.parse(source.path.read_bytes(), source.shown)
    _Strip().visit(tree)
    return tree


def needed(trees: Iterable[ast.Module]) -> list[str]:
    """MODULE.NAME of the modules in C that frozen code uses.

    Which names posix has depends on libc, on configure and on the version, and a name that is
    missing would show when the code runs: the executable is asked before the snapshot is taken.
    """
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in BUILTINS:
                    found.add(f"{node.value.id}.{node.attr}")
            elif isinstance(node, ast.ImportFrom) and node.module in BUILTINS:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return sorted(found - OF_THE_PROCESS)


class _Strip(ast.NodeTransformer):
    """Removes what only readers and type checkers use. Positions stay those of the file."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is not None:
            assign = ast.Assign(targets=[node.target], value=node.value)
            return ast.copy_location(assign, node)
        # A bare annotation makes a name local to its function: the code would mean another thing
        # without it only where that name is never assigned, which is an error anyway.
        return ast.copy_location(ast.Pass(), node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            kept = [self.visit(statement) for statement in node.orelse]
            return kept or ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def _body(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        while node.body and _is_text(node.body[0]):
            first = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), first))
        return self.generic_visit(node)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def check(source: Source, tree: ast.Module, frozen: set[str]) -> None:
    """Refuses an import of what is not in the executable and the use of what it lacks."""
    _Rules(source, frozen).visit(tree)


class _Rules(ast.NodeVisitor):
    def __init__(self, source: Source, frozen: set[str]) -> None:
        self.source = source
        self.available = frozen | BUILTINS - {"_imp"}
        self.packages = {name.rpartition(".")[0] for name in frozen}
        self.inside = 0  # of how many functions
        self.modules: set[str] = set()  # names that are modules

    def refuse(self, node: ast.stmt | ast.expr, fault: str) -> NoReturn:
        raise FreezeError(f"{self.source.shown}:{node.lineno}: {fault}")

    def need(self, node: ast.stmt, module: str) -> None:
        if module not in self.available:
            self.refuse(node, f"imports {module}, which is neither frozen nor built in")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.need(node, alias.name)
            if alias.asname:
                self.refuse(node, "a module by another name, under which no rule knows it")
            self.modules.add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            self.refuse(node, "a relative import")
        if node.module == "time":
            self.refuse(node, "names taken out of time, which is in parts: write time.NAME")
        self.need(node, node.module)
        for alias in node.names:
            self.modules.add(alias.asname or alias.name)
            if f"{node.module}.{alias.name}" in OF_THE_PROCESS:
                self.refuse(node, f"{node.module}.{alias.name} taken out of its module")
        if node.module in self.packages:  # a name may be that of a module
            for alias in node.names:
                self.need(node, f"{node.module}.{alias.name}")

    def visit_Name(self, node: ast.Name) -> None:
        # The importer's exec() is of code objects, and needs no compiler.
        allowed = self.source.name == IMPORTER and node.id == "exec"
        if node.id in ABSENT and not allowed:
            self.refuse(node, f"{node.id}() does not exist in the executable")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in WITH_A_CLASS:
            self.refuse(node, f"{node.name}() runs while the module is imported")
        self._decorators(node)
        self._function([*node.decorator_list, node.args], node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorators(node)
        if node.keywords and not self.inside:
            self.refuse(node, "a metaclass is called while the module is imported")
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        if not self.inside:
            self.refuse(node, "with: it calls while the module is imported")
        self.generic_visit(node)

    def _decorators(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            name = ast.unparse(decorator)
            # A call that is a decorator is a call, which visit_Call() sees.
            if not self.inside and not isinstance(decorator, ast.Call) and name not in AT_IMPORT:
                self.refuse(decorator, f"{name}() is called while the module is imported")

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function([node.args], [node.body])

    def _function(self, at_once: Iterable[ast.AST], later: Iterable[ast.AST]) -> None:
        for part in at_once:
            self.visit(part)
        self.inside += 1
        for part in later:
            self.visit(part)
        self.inside -= 1

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node, node.op)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node, node.op)
        self.generic_visit(node)

    def _operator(self, node: ast.stmt | ast.expr, operator: ast.operator) -> None:
        if isinstance(operator, ast.Pow):
            self.refuse(node, "** does not exist in the executable")

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
            name = node.args[1] if len(node.args) > 1 else node
            if not isinstance(name, ast.Constant) and self.source.name not in NAMES_OF_OURS:
                self.refuse(node, f"{node.func.id}() of a name that is not in the code")
        if isinstance(node.func, ast.Name) and node.func.id == "int":
            for base in (*node.args[1:], *(word.value for word in node.keywords)):
                if not isinstance(base, ast.Constant) or base.value not in BASES:
                    self.refuse(node, "int() to a base that the executable cannot read")
        if not self.inside:
            function = node.func
            called = function.id if isinstance(function, ast.Name) else ast.unparse(function)
            if isinstance(function, ast.Attribute) and function.attr == "replace":
                of_module = (
                    isinstance(function.value, ast.Name) and function.value.id in self.modules
                )
                called = called if of_module else "str.replace"
            if called not in AT_IMPORT:
                self.refuse(node, f"{called}() is called while the module is imported")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        module = node.value.id if isinstance(node.value, ast.Name) else ""
        if not self.inside and f"{module}.{node.attr}" in OF_THE_PROCESS:
            self.refuse(node, f"{module}.{node.attr} is read while the module is imported")
        if node.attr in ("format", "format_map") and module not in self.modules:
            text = node.value.value if isinstance(node.value, ast.Constant) else "."
            if node.attr == "format_map" or not isinstance(text, str) or {".", "["} & {*text}:
                self.refuse(node, f"{node.attr}() of a text whose fields may name attributes")
        if f"{module}.{node.attr}" == "sys.getsizeof":
            self.refuse(node, "sys.getsizeof() does not exist in the executable")
        if module == "time" and node.attr not in TIME:
            self.refuse(node, f"time.{node.attr} does not exist in the executable")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, complex):
            self.refuse(node, "complex numbers do not exist in the executable")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.refuse(node, "async code")
