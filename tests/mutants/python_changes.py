# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The changes of a Python file: conditions, flags, raised errors."""

import ast
from collections.abc import Iterator
from itertools import accumulate

from .change import Change

# Flags whose absence is no change: the first is 0, and posix.open() sets the second itself.
_NO_FLAGS = ("posix.O_RDONLY", "posix.O_CLOEXEC")


def changes(path: str, source: bytes) -> list[Change]:
    """All changes of the file, in its order."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda change: (change.start, change.end, change.what))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Change] = []
        self._path = path
        self._source = source
        self._lines = source.splitlines()
        lines = source.splitlines(keepends=True)
        self._starts = [0, *accumulate(map(len, lines))]

    def _change(self, node: ast.expr | ast.stmt, text: str, what: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        was = self._source[start:end].decode()
        within = self._lines[node.lineno - 1].decode().strip()
        self.found.append(Change(self._path, node.lineno, start, end, text, was, what, within))

    def _condition(self, test: ast.expr, *, loop: bool = False) -> None:
        if isinstance(test, ast.Constant) or _is_typing(test):
            return
        # Names that the condition binds have to be bound still.
        binds = any(isinstance(node, ast.NamedExpr) for node in ast.walk(test))
        for value in (False,) if loop else (False, True):
            text = f"[{ast.unparse(test)}, {value}][1]" if binds else str(value)
            self._change(test, text, f"always {str(value).lower()}")

    def visit_If(self, node: ast.If) -> None:
        if _is_typing(node.test):
            for statement in node.orelse:
                self.visit(statement)
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test, loop=True)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        neutral = str(isinstance(node.op, ast.And))
        for operand in node.values:
            if not any(isinstance(below, ast.NamedExpr) for below in ast.walk(operand)):
                self._change(operand, neutral, "left out")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.BitOr):
            for part in _operands(node):
                if ast.unparse(part) not in _NO_FLAGS:
                    self._change(part, "0", "left out")
            return
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            self._change(value, str(not value.value), f"is {not value.value}")
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        for statement in node.body:
            if isinstance(statement, ast.Raise):
                self._change(statement, "pass", "left out")
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """Without its annotation: `|` is no flag there."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.decorator_list, *node.args.defaults, *node.body):
            self.visit(child)
        for default in node.args.kw_defaults:
            if default is not None:
                self.visit(default)


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _operands(node.left)
        yield from _operands(node.right)
    else:
        yield node


def _is_typing(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
