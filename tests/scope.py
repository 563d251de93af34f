# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What only `make check-all` runs: pytest's option --all (conftest.py) sets ALL.

Such tests are marked, so that `make check` can name at its end what it left out.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

ALL = os.environ.get("CFS_TESTS") == "all"


def parameters(always: Iterable[str], of_all: Iterable[str], start: Sequence[str] = ("",)) -> Any:
    """The names that begin with one of `start`, for parametrize."""
    marked = [pytest.param(name, marks=pytest.mark.all_only) for name in of_all if _is(name, start)]
    return [*(name for name in always if _is(name, start)), *marked]


def _is(name: str, start: Sequence[str]) -> bool:
    return name.startswith(tuple(start))
