# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The images that records of the running system name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyinit.host.store import records
from pyinit.initrd.handover import status
from tests.host.store.test_gc import add_image, collect, tree, whole

pytestmark = pytest.mark.usefixtures("alone")
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("where", "record"),
    [
        ("root", {"digest": "sha256:{}"}),
        ("initrd", {"digest": "sha256:{}", "source": "carried"}),
        ("next", {"digest": "sha256:{}", "source": "soft-reboot"}),
        ("staged", {"depl_id": "{}", "finalization_locked": False}),
    ],
)
def test_what_a_record_names_stays(store: Path, where: str, record: dict[str, object]) -> None:
    named, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    path = {
        "root": status.PATH, "initrd": status.INITRD, "next": status.NEXT,
        "staged": records.STAGED,
    }[where]  # fmt: skip
    Path(path).write_text(json.dumps(record).replace("{}", named))
    assert collect(store, "--now") == 0
    assert whole(store, named)
    assert not (store / "images" / gone).is_symlink()


@pytest.mark.parametrize("where", ["here", "elsewhere", "whole", "no disk"])
def test_an_image_in_memory_alone_stops_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, capsys: Capture
) -> None:
    """Its UKI was replaced. Nothing tells what it needs: nobody may say that it is another's."""
    add_image(store, [1, 2])
    disk = tmp_path / "disk"
    disk.mkdir()
    if where != "no disk":
        (disk / "composefs").symlink_to(store if where != "elsewhere" else tmp_path)
    monkeypatch.setattr(records, "DISK", str(disk))
    record = {
        "digest": "sha256:" + "ab" * 32, "store": "/composefs", "embedded": True,
        "verity": "memory" if where == "whole" else "require",
    }  # fmt: skip
    Path(status.PATH).write_text(json.dumps(record))
    before = tree(store)
    assert collect(store, "--now", "--except", "/") == (32 if where == "here" else 0)
    if where == "here":
        assert tree(store) == before
        said = f"store: {status.PATH}: the image of the running root, {record['digest']}, is in"
        assert said in capsys.readouterr().err


def test_apps_stay(store: Path) -> None:
    """Also after a soft reboot, whose record names none."""
    named, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    lines = (f"a=fsverity-sha256-12:{named}", f"b=fsverity-sha256-12:{'ab' * 32}")
    Path(status.APPS).write_text("\n".join(["cfsapp1", *lines, ""]))
    assert collect(store, "--now") == 0
    assert whole(store, named)
    assert not (store / "images" / gone).is_symlink()


def test_apps_that_cannot_be_read(store: Path, capsys: Capture) -> None:
    add_image(store, [1])
    before = tree(store)
    Path(status.APPS).write_text("cfsapp2\n")
    assert collect(store, "--now") == 32
    assert tree(store) == before
    assert f"source: {status.APPS}: the first line is 'cfsapp2'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digest": 1}', '{"digest": "x"}', "\x80"])
def test_a_record_that_cannot_be_read(store: Path, text: str, capsys: Capture) -> None:
    add_image(store, [1])
    before = tree(store)
    Path(status.NEXT).write_text(text, encoding="latin-1")
    assert collect(store, "--now") == 32
    assert tree(store) == before
    assert f"{status.NEXT}: a record that cannot be read: " in capsys.readouterr().err


def test_a_record_of_another_store(store: Path) -> None:
    add_image(store, [1])
    Path(status.PATH).write_text(json.dumps({"digest": "sha512:" + "ab" * 64}))
    assert collect(store, "--now") == 0
    assert not tree(store)


def test_deployments_of_bootc(store: Path) -> None:
    kept, gone = add_image(store, [1]), add_image(store, [2])
    deployments = store.parent / "state/deploy"
    for name in (kept, "ab" * 64, "notes"):
        (deployments / name).mkdir(parents=True)
    assert collect(store, "--now") == 0
    assert whole(store, kept)
    assert not (store / "images" / gone).is_symlink()
