# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the sources can say when they refuse: read from their syntax, not from a list.

A message is `VERDICT: STEP: PATH: FOUND, expected WHAT`. Its text here is FOUND, with `…` for what
is filled in at run time. Where nothing of FOUND is known before, it is `STEP: …` and what was
expected. The files are found wherever they lie below pyinit/.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPEN = "…"

# By the name of what is called: the places of STEP, FOUND and EXPECTED among its arguments.
_ERRORS: dict[str, tuple[int | None, int, int]] = {
    "Refused": (0, 2, 3),
    "UsageError": (0, 2, 3),
    "SystemFailure": (0, 2, 3),
    "ImageMissing": (0, 2, 3),
    "NotFound": (0, 2, 3),
    "NotBooting": (0, 2, 3),
    "kind": (0, 2, 3),  # a variable that holds one of these
    "error": (0, 2, 3),
    "_unproved": (None, 1, 2),  # of proof.py
    "fail": (None, 0, 1),  # of keylines.py, which says "error" with a step of its caller
}
# Their texts stand inside a message of the above.
_INSIDE = {"ValueError", "PeWriteError", "_Absent"}
# Where these reach nobody but a programmer or a test.
_NOT_SAID = ("frozen/", "bench/")
_FAULTS = {
    "fault",
    "_ext4",
    "_btrfs",
    "_measure_fault",
    "reason",
    "_unknown",
}  # what they return is said
_OWN = "refused"  # a method (found, expected) of a UKI


@dataclass(frozen=True)
class Message:
    """A text, and where it is written."""

    text: str
    place: str


def messages(root: Path = ROOT / "pyinit") -> list[Message]:
    """Every text of an error that a person may see."""
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root.parent).as_posix()
        if any(part in name for part in _NOT_SAID):
            continue
        for line, text in _File(ast.parse(path.read_text())).texts():
            found.append(Message(text, f"{name}:{line}"))
    return found


class _File:
    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.constants = dict(_assigned(tree.body))
        self.all_functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self.functions = {node.name: node for node in self.all_functions}

    def texts(self) -> Iterator[tuple[int, str]]:
        for function in [*self.all_functions, self.tree]:
            for call in _own_calls(function):
                for text in self._message(call, function):
                    yield call.lineno, text
        for function in self.all_functions:
            if function.name in _FAULTS:
                found = filter(_says, self._returned(function, 0))
                yield from ((function.lineno, text) for text in found)
        for name, value in self.constants.items():
            if isinstance(value, ast.Dict) and value.keys and all(map(_is_errno, value.keys)):
                yield from ((value.lineno, text) for text in self._table(name))

    def _message(self, call: ast.Call, scope: ast.AST) -> Iterator[str]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else _name(call.func)
        if name == _OWN and isinstance(call.func, ast.Attribute):
            step, found, expected = "source", *_two(call.args)
        elif name in _ERRORS and isinstance(call.func, ast.Name):
            places = _ERRORS[name]
            if len(call.args) <= places[1] or any(
                isinstance(argument, ast.Starred) for argument in call.args
            ):
                return
            first = OPEN if places[0] is None else self.of(call.args[places[0]], scope)[0]
            step = first if first != OPEN else "STEP"
            found, expected = _two(call.args[places[1] :])
        elif name in _INSIDE and call.args:
            yield from (text for text in self.of(call.args[0], scope) if _says(text))
            return
        else:
            return
        for text in self.of(found, scope):
            if _says(text):
                yield text
                continue
            wanted = [""] if expected is None else self.of(expected, scope)
            for word in wanted:
                yield f"{step}: {OPEN}" + (f", expected {word}" if word else "")

    def of(self, node: ast.expr, scope: ast.AST, depth: int = 0) -> list[str]:
        """What an expression can be."""
        if depth > 6:
            return [OPEN]
        if isinstance(node, ast.Constant):
            return [node.value if isinstance(node.value, str) else OPEN]
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(value, scope, depth) for value in node.values]
            return [_joined(row) for row in itertools.product(*parts)]
        choices = _choices(node)
        if choices:
            return [text for choice in choices for text in self.of(choice, scope, depth + 1)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = (self.of(side, scope, depth + 1) for side in (node.left, node.right))
            return [_joined(row) for row in itertools.product(left, right)]
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return self._table(node.value.id) or [OPEN]
        if isinstance(node, ast.Name):
            return self._variable(node.id, scope, depth)
        if isinstance(node, ast.Call):
            return self._called(node, scope, depth)
        return [OPEN]

    def _part(self, node: ast.expr, scope: ast.AST, depth: int) -> list[str]:
        if not isinstance(node, ast.FormattedValue):
            return self.of(node, scope, depth)
        value = node.value
        if isinstance(value, ast.Name) and value.id not in self.constants:
            return [OPEN]
        return self.of(value, scope, depth + 1)

    def _table(self, name: str) -> list[str]:
        value = self.constants.get(name)
        if not isinstance(value, ast.Dict):
            return []
        return [
            node.value
            for node in value.values
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]

    def _variable(self, name: str, scope: ast.AST, depth: int) -> list[str]:
        found: list[str] = []
        for node in ast.walk(scope) if isinstance(scope, ast.FunctionDef) else ():
            if isinstance(node, ast.Assign) and name in map(_name, node.targets):
                found += self.of(node.value, scope, depth + 1)
            elif isinstance(node, ast.AugAssign) and _name(node.target) == name:
                found += [_joined((OPEN, text)) for text in self.of(node.value, scope, depth + 1)]
        if not found and name in self.constants:
            return self.of(self.constants[name], self.tree, depth + 1)
        return found or [OPEN]

    def _called(self, node: ast.Call, scope: ast.AST, depth: int) -> list[str]:
        name = _name(node.func)
        if name == "printable":
            return self.of(node.args[0], scope, depth + 1)
        function = self.functions.get(name or "")
        if function is None:
            return [OPEN]
        return self._returned(function, depth) or [OPEN]

    def _returned(self, function: ast.FunctionDef, depth: int) -> list[str]:
        return [
            text
            for part in ast.walk(function)
            if isinstance(part, ast.Return) and part.value is not None
            for text in self.of(part.value, function, depth + 1)
        ]


def _own_calls(scope: ast.AST) -> Iterator[ast.Call]:
    """Calls in a function, and not in one inside it; at the top those outside of all."""
    stack = list(ast.iter_child_nodes(scope))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        stack += list(ast.iter_child_nodes(node))


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _choices(node: ast.expr) -> list[ast.expr]:
    """Of which one is the text."""
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BoolOp):
        return node.values
    return node.elts[:1] if isinstance(node, ast.Tuple) else []


def _is_errno(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Attribute) and _name(node.value) == "errno"


def _two(arguments: list[ast.expr]) -> tuple[ast.expr, ast.expr | None]:
    return arguments[0], arguments[1] if len(arguments) > 1 else None


def _joined(parts: tuple[str, ...]) -> str:
    return re.sub(f"(?:{OPEN}){{2,}}", OPEN, "".join(parts))


def _says(text: str) -> bool:
    """Is there a word in it that somebody could search for?"""
    return bool(re.search(r"[A-Za-z]{2}", text.replace("expected", "")))
