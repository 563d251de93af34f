# SPDX-License-Identifier: Apache-2.0 OR MIT
"""rows.toml: each row of what other machines do names tests, and they are there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTIONS: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "tests/rows.toml").read_text())
NAMED = [
    pytest.param(test, id=test)
    for test in sorted(
        {test for rows in SECTIONS.values() for row in rows.values() for test in row}
    )
]
_NAME = re.compile(r"(tests/[\w/]+\.py)::(\w+)(?:\[(.+)\])?")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_row_names_a_test(section: str) -> None:
    assert SECTIONS[section]
    for row, tests in SECTIONS[section].items():
        assert tests, row
        assert len(set(tests)) == len(tests), row


@pytest.mark.parametrize("test", NAMED)
def test_a_test_that_is_named_is_there(test: str) -> None:
    """Its file, its function, and its case, which stands in that file or in one beside or below."""
    found = _NAME.fullmatch(test)
    assert found
    path, function, case = ROOT / found[1], found[2], found[3]
    names = [node.name for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef)]  # fmt: skip
    assert names.count(function) == 1
    if case is not None:
        texts = (beside.read_text() for beside in path.parent.rglob("*.py"))
        assert any(f'"{case}"' in text for text in texts)
