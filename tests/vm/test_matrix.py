# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The table of hostile cases: the stable kernel whole, the one that refuses as far as it can, the
newest in one row of each kind (all of it by `make matrix`)."""

import ast
from pathlib import Path

import pytest

from .cases import CaseError
from .kernels import NEWEST, REFUSES, STABLE
from .matrix.elsewhere import ELSEWHERE
from .matrix.mounters import CFS_MOUNT
from .matrix.rows import FILE_SYSTEMS, Row
from .matrix.run import ROWS, Matrix, run_matrix
from .matrix.stores import make_disks
from .once import REPOSITORY
from .toolbox import Toolbox

_SMOKE = (
    "0-right",
    "0-right-format-2",
    "1-other-image",
    "6-sha512",
    "15-deleted",
    "16-canary",
    "23-no-verity",
    "29-no-erofs",
    "41-other",
    "48-next",
)
_PLACES = {
    STABLE: ROWS,
    REFUSES: ROWS,
    NEWEST: tuple(row for row in ROWS if row.name in _SMOKE),
}
# What must be handled now: the other numbers are of later issues.
_NUMBERS = {*range(1, 35), 40, 41, 42, 44, 46, 47, 48}


class Boots:
    """One for each kernel and file system, at first use; a failed one is not repeated."""

    def __init__(self, toolbox: Toolbox, factory: pytest.TempPathFactory) -> None:
        self._toolbox = toolbox
        self._factory = factory
        self._found: dict[tuple[str, str], Matrix | Exception] = {}

    def __getitem__(self, place: tuple[str, str]) -> Matrix:
        if place not in self._found:
            role, file_system = place
            try:
                self._found[place] = run_matrix(
                    make_disks(self._toolbox),
                    role,
                    file_system,
                    self._factory.mktemp("matrix"),
                    (CFS_MOUNT,),
                    _PLACES[role],
                )
            except Exception as error:
                self._found[place] = error
        found = self._found[place]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(scope="session")
def boots(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Boots:
    return Boots(toolbox, tmp_path_factory)


@pytest.mark.parametrize(
    ("role", "file_system", "row"),
    [
        pytest.param(role, name, row, id=f"{role}-{name}-{row.name}")
        for role, rows in _PLACES.items()
        for name in FILE_SYSTEMS
        if (role, name) != (NEWEST, "btrfs")
        for row in rows
        if row.runs_on(role)
    ],
)
def test_row(boots: Boots, role: str, file_system: str, row: Row) -> None:
    boots[role, file_system].check(row)


def test_a_row_with_another_outcome_fails(boots: Boots) -> None:
    """The table itself: a refusal that is none, and a mount that is refused."""
    matrix = boots[STABLE, "ext4"]
    rows = {row.name: row for row in ROWS}
    for name, other in (
        ("0-right", "1-other-image"),
        ("1-other-image", "0-right"),
        ("1-other-image", "2-no-verity"),
        ("16-program", "0-right"),
    ):
        row = rows[name]
        wrong = Row(row.number, row.variant, row.title, rows[other].outcome, row.prepare)
        with pytest.raises(CaseError):
            matrix.check(wrong)


def test_every_case_has_a_place() -> None:
    placed = {row.number for row in ROWS} | {entry.number for entry in ELSEWHERE}
    assert placed >= _NUMBERS
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(entry.why for entry in ELSEWHERE if not entry.tests)


@pytest.mark.parametrize("name", sorted({test for entry in ELSEWHERE for test in entry.tests}))
def test_the_tests_that_are_named_exist(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse(Path(REPOSITORY / path).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not function or function in functions
