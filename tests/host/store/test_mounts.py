# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The images of mounts, in a /proc that is made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import mounts, records
from pyinit.initrd.handover import status
from tests.host.store.played import put
from tests.host.store.test_gc import add_image, content, tree, whole

pytestmark = pytest.mark.usefixtures("no_records")
Capture = pytest.CaptureFixture[str]
LINE = "{id} 1 0:{id} / {target} ro - overlay {source} ro,{options}\n"


@pytest.fixture
def no_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name in ((status, "PATH"), (status, "NEXT"), (records, "STAGED")):
        monkeypatch.setattr(module, name, str(tmp_path / "none"))


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "proc"
    monkeypatch.setattr(mounts, "PROC", str(path))
    add_process(path, "self", "mnt:[1]", "")
    (path / "cpuinfo").touch()
    return path


def add_process(proc: Path, name: str, namespace: str, mountinfo: str, root: str = "/") -> None:
    (proc / name / "ns").mkdir(parents=True)
    (proc / name / "ns/mnt").symlink_to(namespace)
    (proc / name / "root").symlink_to(root)
    (proc / name / "mountinfo").write_text(mountinfo)


def line(source: str, target: str = "/mnt", options: str = "", number: int = 7) -> str:
    return LINE.format(id=number, source=source, target=target, options=options)


def collect(store: Path, *options: str) -> int:
    return main(["gc", "--no-uki", "--now", *options, str(store)])


@pytest.mark.parametrize("prefix", ["composefs:", "transient:composefs="])
@pytest.mark.parametrize("process", ["self", "17"])
def test_what_a_mount_uses_stays(store: Path, proc: Path, prefix: str, process: str) -> None:
    """Also where another mount namespace has it."""
    used, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    if process == "self":
        (proc / "self/mountinfo").write_text(line(prefix + used))
    else:
        add_process(proc, process, "mnt:[2]", line(prefix + used))
    assert collect(store) == 0
    assert whole(store, used)
    assert not (store / "images" / gone).is_symlink()


def test_an_exception_takes_no_image_of_the_store(store: Path, proc: Path) -> None:
    """`--except /` is meant for one container; the root of this machine lies there too."""
    used = add_image(store, [1])
    (proc / "self/mountinfo").write_text(line(f"composefs:{used}"))
    assert collect(store, "--except", "/mnt") == 0
    assert whole(store, used)


def test_each_root_of_a_namespace_is_looked_at(store: Path, proc: Path, tmp_path: Path) -> None:
    """mountinfo shows what is below the process's own root, and nothing else."""
    used = add_image(store, [1])
    (tmp_path / "root").mkdir()
    add_process(proc, "18", "mnt:[1]", line(f"composefs:{used}"), str(tmp_path / "root"))
    assert collect(store) == 0
    assert whole(store, used)


def test_a_process_that_ended(store: Path, proc: Path) -> None:
    (proc / "19").mkdir()
    put(store, content(1))
    assert collect(store) == 0
    assert not tree(store)


OPTIONS = ["lowerdir=/erofs::{}", "lowerdir+=/erofs,datadir+={}", "lowerdir=/a:/b::/c::{}"]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "source", ["composefs", "overlay", f"composefs:{'ab' * 32}", "composefs:x"]
)
def test_a_mount_that_may_use_the_store(
    store: Path, proc: Path, options: str, source: str, capsys: Capture
) -> None:
    """By its contents' directory: the same one, or one that is not to be seen."""
    add_image(store, [1])
    before = tree(store)
    for place in (str(store / "objects"), "/gone/objects", "relative"):
        (proc / "self/mountinfo").write_text(line(source, options=options.format(place)))
        assert collect(store) == 32
        assert tree(store) == before
        assert "--except /mnt, if they are not" in capsys.readouterr().err
    assert collect(store, "--except", "/mnt") == 0
    assert not tree(store)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_layer_that_was_a_descriptor(
    store: Path, proc: Path, tmp_path: Path, options: str, capsys: Capture
) -> None:
    """As cfs-mount, bootc and composefs name it. Another file has that number here."""
    add_image(store, [1])
    before = tree(store)
    fd = os.open(tmp_path, os.O_PATH)
    try:
        for place in (
            f"/proc/self/fd/{fd}", f"/proc/{os.getpid()}/fd/{fd}", f"//proc//self/fd/{fd}",
            f"/dev/fd/{fd}", f"/dev/../proc/self/fd/{fd}",
        ):  # fmt: skip
            (proc / "self/mountinfo").write_text(line("composefs", options=options.format(place)))
            assert collect(store) == 32, place
            assert tree(store) == before
            assert "--except /mnt, if they are not" in capsys.readouterr().err
    finally:
        os.close(fd)


@pytest.mark.parametrize("options", OPTIONS[:2])
def test_a_mount_of_another_store(store: Path, proc: Path, tmp_path: Path, options: str) -> None:
    other = tmp_path / "other place"
    other.mkdir()
    shown = str(other).replace(" ", r"\040")
    put(store, content(1))
    for source in ("composefs", f"composefs:{'ab' * 32}"):
        (proc / "self/mountinfo").write_text(line(source, options=options.format(shown)))
        assert collect(store) == 0
        assert not tree(store)


def test_other_overlays_are_nothing_to_it(store: Path, proc: Path) -> None:
    put(store, content(1))
    lines = line("overlay", options="lowerdir=/a:/b,upperdir=/c") + (
        "8 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    )
    (proc / "self/mountinfo").write_text(lines)
    assert collect(store) == 0
    assert not tree(store)


def test_this_machine(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Its /proc can be read, whatever is in it."""
    assert os.path.isdir(mounts.PROC)
    seen = {root for root, _ in mounts._namespaces()}
    assert "/proc/self/root" in seen
    assert mounts.overlays() is not None
