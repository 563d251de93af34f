# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a killed `add` left goes away with the next one, and with `check`."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from tests.host.store.played import HELLO, HELLO_HEX, Kernel, put

Capture = pytest.CaptureFixture[str]


def left_in(store: Path, *, hours: float = 2) -> list[Path]:
    """What 0.1.0 left beside an object, of both algorithms, and what a copy leaves that needs a
    name."""
    beside = put(store, HELLO).parent
    paths = [
        beside / f".{HELLO_HEX[2:]}.0123456789ab.tmp",
        beside / f".{'a' * 100}.0123456789ab.tmp",
        store / "objects" / ".0123456789abcdef.17.tmp",
        store / ".meta.json.0123456789ab.tmp",
    ]
    for path in paths:
        path.write_bytes(b"half")
        when = time.time() - hours * 3600
        os.utime(path, (when, when))
    return paths


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("verb", ["add", "check"])
def test_they_go(verb: str, store: Path, hello: Path, capsys: Capture) -> None:
    left = left_in(store)
    kept = [left[0].with_name(".x.tmp"), store / "objects/1e/.hidden", store / ".other.tmp"]
    for path in kept:
        path.touch()
        os.utime(path, (0, 0))
    line = {
        "add": ["add", "--object-store", str(store), str(hello)],
        "check": ["check", str(store)],
    }[verb]
    assert main(line) == 0
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in kept)
    said = f"cfs-store: {store}: 4 temporary files removed, which a killed `add` had left\n"
    assert (said in capsys.readouterr().err) == (verb == "check")


def test_those_of_who_works_stay(store: Path, hello: Path, kernel: Kernel) -> None:
    """Earlier versions take no lock: their files are new. Others hold it."""
    new = left_in(store, hours=0.5)
    assert main(["check", str(store)]) == 0
    assert all(path.exists() for path in new)
    old = left_in(store)
    fd = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert main(["check", str(store)]) == 0
        assert all(path.exists() for path in old)
    finally:
        os.close(fd)
    assert main(["check", str(store)]) == 0
    assert not any(path.exists() for path in old)


def test_no_link_is_followed(store: Path, tmp_path: Path, kernel: Kernel) -> None:
    left_in(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = elsewhere / f".{HELLO_HEX[2:]}.0123456789ab.tmp"
    target.write_bytes(b"of another")
    os.utime(target, (0, 0))
    (store / "objects/ab").symlink_to(elsewhere)
    link = store / "objects" / ".0123456789abcdef.1.tmp"
    link.symlink_to(target)
    main(["check", str(store)])
    assert target.exists()
    assert link.is_symlink()
