# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store`: its exit codes. What the verbs do is in tests/host/store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["add", "file"], 1),
        (["add", "--object-store", "DIR"], 1),
        (["add", "--object-store", "DIR", "--hash", "md5", "file"], 1),
        (["add", "--object-store", "DIR", "absent"], 2),
        (["seal", "absent"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    assert main([str(tmp_path) if word == "DIR" else word for word in arguments]) == code


@pytest.mark.parametrize("command", ["cfs_store", "cfs_uki"])
def test_what_a_verb_needs_is_imported_by_the_verb(command: str) -> None:
    """`--version` waits for no engine, no hashes and no threads."""
    program = (
        f"import sys; from pyinit.host.commands.{command} import main; main(['--version'])\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], text=True, capture_output=True, check=True,
        timeout=600, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "pyinit.host.commands.command" in loaded
    late = {
        "_cfshost",
        "_hashlib",
        "concurrent.futures",
        "dataclasses",
        "json",
        "pathlib",
        "tempfile",
    }
    assert not loaded & late
