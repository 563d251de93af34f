# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which interpreter is linked."""

import sys
from pathlib import Path

import pytest

from pyinit.host.frozen import build, interpreter
from tests.frozen.conftest import ROOT


def test_a_word_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPRETER", "debian")
    with pytest.raises(interpreter.InterpreterError, match="'debian', expected source or distri"):
        build.build(ROOT, tmp_path)


def test_a_version_that_the_snapshot_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    with pytest.raises(interpreter.InterpreterError, match=r"can be built of 3\.11 and 3\.13"):
        interpreter.interpreter(interpreter.SOURCE, tmp_path)
