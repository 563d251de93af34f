# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every seed and every past crash, given to its parser; how much of the parser that reaches."""

from pathlib import Path

import pytest

from fuzz import build, harness, make_seeds, reach
from fuzz.parsers import HERE, PARSERS

IN_C = [name for name, parser in PARSERS.items() if parser.is_c]
IN_PYTHON = [name for name in PARSERS if name not in IN_C]


def _files(name: str) -> list[Path]:
    return sorted(path for directory in PARSERS[name].corpus for path in directory.iterdir())


@pytest.mark.parametrize("name", IN_C)
def test_c(name: str) -> None:
    """Under gcc's sanitizers, without libFuzzer."""
    corpus = map(str, PARSERS[name].corpus)
    assert int(build.run(str(build.replayer(PARSERS[name])), *corpus)) == len(_files(name))


@pytest.mark.parametrize("name", IN_PYTHON)
def test_python(name: str) -> None:
    check = harness.load(name)
    for path in _files(name):
        try:
            check(path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path}: {error!r}") from error


@pytest.mark.parametrize("name", PARSERS)
def test_there_are_enough(name: str) -> None:
    assert len(_files(name)) >= PARSERS[name].seeds


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_what_the_script_makes(name: str) -> None:
    directory = make_seeds.SEEDS / name
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert found == make_seeds.make(name), "python -m fuzz.make_seeds"


@pytest.mark.parametrize("name", PARSERS)
def test_they_reach_nearly_everything(name: str) -> None:
    files = reach.reached(PARSERS[name], PARSERS[name].corpus)
    assert [file.source for file in files] == list(PARSERS[name].sources)
    assert all(file.enough for file in files), [str(file) for file in files]


def test_nothing_lies_where_no_parser_takes_it() -> None:
    for kind in ("seeds", "crashes"):
        assert {path.name for path in (HERE / kind).glob("*")} <= set(PARSERS)
    assert {path.stem for path in (HERE / "dictionaries").iterdir()} == set(PARSERS)
    harnesses = {path.stem for path in (HERE / "harness").glob("[a-z]*.py")}
    assert harnesses == set(IN_PYTHON)
