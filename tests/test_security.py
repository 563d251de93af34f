# SPDX-License-Identifier: Apache-2.0 OR MIT
"""SECURITY.md names what shows each of its claims, and that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text()
ROWS = [
    line.strip("| ").split(" | ")
    for line in SECURITY.splitlines()
    if line.startswith("| ") and not line.startswith("| They write")
]
# Said where no test shows it.
WITHOUT_TEST = {"not promised"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_way_in_has_its_test_or_says_that_there_is_none(row: list[str]) -> None:
    _, stops, shown = row
    assert stops
    if shown not in WITHOUT_TEST:
        named = re.findall(r"`([^`]+)`", shown)
        assert named
        assert ", ".join(f"`{name}`" for name in named) == shown


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:tests|fuzz|pyinit)/[^`]*)`", SECURITY)))
)
def test_what_is_named_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20
