# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`meta.json`, and who obeys it."""

import _cfs
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import metadata
from tests.host.store import written
from tests.host.store.played import HELLO, Kernel, put

Capture = pytest.CaptureFixture[str]
READ = ("check", "missing")
WRITE = ("add", "seal")
# As `cfsctl init` of composefs-rs 0.9.4 writes it.
CFSCTL = """{
  "version": 1,
  "algorithm": "fsverity-sha512-12",
  "features": {
    "compatible": [],
    "read-only-compatible": [
      "v1_erofs"
    ],
    "incompatible": []
  },
  "erofs_formats": {
    "default": 1
  }
}
"""


def meta(store: Path, **values: object) -> None:
    content = {"version": 1, "algorithm": "fsverity-sha256-12", **values}
    (store / "meta.json").write_text(json.dumps(content))


def run(verb: str, store: Path) -> int:
    image = store.parent / "image"
    image.write_bytes(written.image(written.directory()))
    return main(
        {
            "add": ["add", "--object-store", str(store), str(image)],
            "seal": ["seal", str(store)],
            "missing": ["missing", "--object-store", str(store), str(image)],
            "check": ["check", str(store)],
        }[verb]
    )


@pytest.fixture
def filled(store: Path, kernel: Kernel) -> Path:
    put(store, HELLO)
    return store


def test_it_is_written_as_cfsctl_does(filled: Path) -> None:
    assert metadata.text(_cfs.SHA512).decode() == CFSCTL
    (filled / "meta.json").write_bytes(metadata.text(_cfs.SHA512))
    assert metadata.read(filled) == metadata.Metadata(_cfs.SHA512)


@pytest.mark.parametrize("verb", READ + WRITE)
@pytest.mark.parametrize(
    "features",
    [
        {},
        {"compatible": ["news"]},
        {"read-only-compatible": ["v1_erofs"], "incompatible": [], "of-tomorrow": ["x"]},
    ],
)
def test_what_is_known_or_asks_for_nothing(
    features: dict[str, Any], verb: str, filled: Path
) -> None:
    meta(filled, features=features, erofs_formats={"default": 2, "extra": [1]}, other=1)
    assert run(verb, filled) == 0


@pytest.mark.parametrize("verb", READ + WRITE)
@pytest.mark.parametrize(
    "values",
    [
        {"version": 2},
        {"version": "1"},
        {"algorithm": "fsverity-sha256-16"},
        {"algorithm": ["fsverity-sha256-12"]},
        {"features": {"incompatible": ["news"]}},
        {"features": {"incompatible": "news"}},
        {"features": {"read-only-compatible": [1]}},
        {"features": {"compatible": {}}},
        {"features": ["incompatible"]},
    ],
)
def test_what_is_unknown_is_refused_by_all(
    values: dict[str, Any], verb: str, filled: Path, capsys: Capture
) -> None:
    meta(filled, **values)
    assert run(verb, filled) == 32
    assert f"refused: store: {filled}/meta.json: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", READ + WRITE)
def test_what_is_read_only_compatible(verb: str, filled: Path, capsys: Capture) -> None:
    meta(filled, features={"read-only-compatible": ["v1_erofs", "news"]})
    assert run(verb, filled) == (32 if verb in WRITE else 0)
    said = f"refused: store: {filled}/meta.json: features news, expected none that is unknown"
    assert (said in capsys.readouterr().err) == (verb in WRITE)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version": 1}', b" " * (1 << 17)]
)
def test_what_cannot_be_read(content: bytes, filled: Path, capsys: Capture) -> None:
    (filled / "meta.json").write_bytes(content)
    assert run("check", filled) == 32
    assert f"{filled}/meta.json: unreadable (" in capsys.readouterr().err


def test_what_is_no_file(filled: Path, tmp_path: Path, capsys: Capture) -> None:
    """A FIFO must not hold it up, and a dangling link is not nothing."""
    os.mkfifo(filled / "meta.json")
    assert run("check", filled) == 32
    (filled / "meta.json").unlink()
    (filled / "meta.json").symlink_to(tmp_path / "absent")
    assert run("check", filled) == 32
    assert capsys.readouterr().err.count("meta.json: not a regular file\n") == 2
