# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store`: its exit codes. What the verbs do is in tests/host/store."""

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
