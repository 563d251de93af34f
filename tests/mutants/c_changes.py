# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The changes of a C file: conditions and flags."""

from collections.abc import Iterator

import tree_sitter_c
from tree_sitter import Language, Node, Parser

from .change import Change

_LOOPS = ("while_statement", "for_statement", "do_statement")
_CONDITIONAL = ("if_statement", "conditional_expression", *_LOOPS)
# What the compiler works out: a change there is another program, or none.
_SKIPPED = ("preproc_if", "preproc_elif", "preproc_def", "preproc_function_def", "static_assert")
_NO_FLAG = b"O_RDONLY"  # 0
_NEUTRAL = {"&&": "1", "||": "0"}


def changes(path: str, source: bytes) -> list[Change]:
    """All changes of the file, in its order."""
    tree = Parser(Language(tree_sitter_c.language())).parse(source)
    lines = source.split(b"\n")
    found = [
        Change(path, node.start_point[0] + 1, node.start_byte, node.end_byte, text,
               source[node.start_byte : node.end_byte].decode(), what,
               lines[node.start_point[0]].decode().strip())
        for node, text, what in _find(tree.root_node)
    ]  # fmt: skip
    return sorted(found, key=lambda change: (change.start, change.end, change.what))


def _find(root: Node) -> Iterator[tuple[Node, str, str]]:
    left = [root]
    while left:
        node = left.pop()
        if node.type in ("preproc_def", "preproc_function_def"):
            continue
        if node.type in _CONDITIONAL:
            yield from _condition(node)
        elif node.type == "binary_expression":
            yield from _operands(node)
        left += [
            child
            for index, child in enumerate(node.children)
            if not (node.type in _SKIPPED and node.field_name_for_child(index) == "condition")
        ]


def _condition(node: Node) -> Iterator[tuple[Node, str, str]]:
    test = node.child_by_field_name("condition")
    if test is None:
        return
    if test.type == "parenthesized_expression":
        test = test.named_children[-1]
    for value, word in (("0", "false"), ("1", "true")):
        if value == "0" or node.type not in _LOOPS:
            yield test, value, f"always {word}"


def _operands(node: Node) -> Iterator[tuple[Node, str, str]]:
    operator = node.child_by_field_name("operator")
    if operator is None or operator.type not in (*_NEUTRAL, "|"):
        return
    for name in ("left", "right"):
        part = node.child_by_field_name(name)
        # The left part of a chain is one itself.
        if part is not None and not _same(part, operator.type) and part.text != _NO_FLAG:
            yield part, _NEUTRAL.get(operator.type, "0"), "left out"


def _same(node: Node, operator: str) -> bool:
    own = node.child_by_field_name("operator") if node.type == "binary_expression" else None
    return own is not None and own.type == operator
