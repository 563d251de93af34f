# SPDX-License-Identifier: Apache-2.0 OR MIT
import os
from pathlib import Path

from pyinit.initrd import copying
from tests.vm.listing import listing


def fill(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_bytes(bytes(3 << 20))
    (root / "a" / "file").chmod(0o640)
    (root / "link").symlink_to("/nowhere")
    os.mkfifo(root / "fifo", 0o600)
    (root / "a").chmod(0o2750)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1, 1_000_000_000), follow_symlinks=False)


def test_a_copy_shows_the_same(tmp_path: Path) -> None:
    fill(tmp_path / "from")
    (tmp_path / "to").mkdir(mode=0o700)
    copying.tree(str(tmp_path / "from"), str(tmp_path / "to"))
    assert listing(tmp_path / "to") == listing(tmp_path / "from")


def test_remove_takes_all_and_follows_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "kept")
    before = listing(tmp_path / "kept")
    fill(tmp_path / "gone")
    (tmp_path / "gone" / "a" / "out").symlink_to(tmp_path / "kept")
    copying.remove(str(tmp_path / "gone"))
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    copying.remove(str(tmp_path / "link"))
    copying.remove(str(tmp_path / "none"))
    assert os.listdir(tmp_path) == ["kept"]
    assert listing(tmp_path / "kept") == before


def test_a_deep_tree_is_removed_without_recursion(tmp_path: Path) -> None:
    path = str(tmp_path / "deep")
    for _ in range(1200):
        os.mkdir(path)
        path += "/d"
    copying.remove(str(tmp_path / "deep"))
    assert not (tmp_path / "deep").exists()
