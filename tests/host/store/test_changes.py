# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `cfs-store image` leaves out of a directory, and changes: as composefs-rs has a tree that is
to boot, and for builds that can be repeated."""

import _cfshost
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import make_image
from pyinit.host.store.changes import Changes
from pyinit.host.store.layout import Store
from tests.host.store.played import Kernel, files
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]

# `cfsctl --no-repo --hash sha256 compute-id --bootable` of composefs-ctl 0.9.4, of tree() as root.
BOOTABLE = "6104715a42091957fc5f5e3379cfb78426b60cdb46051ac83452709c41acdf86"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with hard links, also of a link, whose first name is not the one seen first."""
    tree = tmp_path / "tree"
    for name in ("usr/bin", "boot/efi", "sysroot/ostree", "run/lock", "etc", "var/cache"):
        (tree / name).mkdir(parents=True)
    (tree / "usr/bin/a").write_bytes(b"a" * 5000)
    for name in ("usr/bin/z", "etc/a", "var/a"):
        (tree / name).hardlink_to(tree / "usr/bin/a")
    (tree / "usr/large").write_bytes(b"l" * (9 << 20))
    (tree / "lib").symlink_to("usr/lib")
    os.link(tree / "lib", tree / "etc/lib", follow_symlinks=False)
    os.mkfifo(tree / "var/fifo")
    for name in ("boot/efi/uki", "sysroot/ostree/x", "run/pid", "var/cache/c", "var/cache/d"):
        (tree / name).write_bytes(name.encode() * 20)
    os.setxattr(tree / "usr/large", "user.a", b"b")
    for number, path in enumerate(sorted(tree.rglob("*")), 1):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, ns=(0, number * 10**9 + number), follow_symlinks=False)
    (tree / "usr").chmod(0o751)
    os.utime(tree, ns=(0, 1))
    return tree


def lines(made: bytes) -> dict[bytes, list[bytes]]:
    pieces: list[bytes] = []
    _cfshost.Image(made).dump(pieces.append)
    return {line.split()[0]: line.split() for line in b"".join(pieces).splitlines()}


def test_bootable(tree: Path, store: Path, kernel: Kernel, capfd: Capture) -> None:
    made = make_image.make(str(tree), changes=Changes(bootable=True, by_root=True))
    assert make_image.digest(made).hex == BOOTABLE
    if (cfsctl := shutil.which("cfsctl")) and os.geteuid() == 0:
        done = subprocess.run(
            [cfsctl, "--no-repo", "--hash", "sha256", "compute-id", "--bootable", tree],
            capture_output=True, check=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.stdout.strip() == BOOTABLE
    assert main(["image", "--bootable", "--owner", "root", "--object-store", str(store),
                 str(tree)]) == 0  # fmt: skip
    assert capfd.readouterr().out == f"sha256:{BOOTABLE}\n"
    # Nothing of /boot, /sysroot and /run is read.
    contents = list(files(store / "objects").values())
    assert len(contents) == 5
    assert not any(b"boot/efi/uki" in content for content in contents)
    assert Store(store).objects.is_dir()


@pytest.mark.parametrize("lacks", ["usr", "boot", "sysroot"])
def test_what_does_not_boot(tree: Path, lacks: str, capfd: Capture) -> None:
    shutil.rmtree(tree / lacks)
    assert main(["image", "--bootable", "--digest-only", str(tree)]) == 32
    assert (
        f"no directory /{'usr' if lacks == 'usr' else 'boot or /sysroot'}" in capfd.readouterr().err
    )


def test_labels_are_not_forgotten(tree: Path, capfd: Capture) -> None:
    (tree / "etc/selinux").mkdir()
    (tree / "etc/selinux/config").write_text("SELINUX=enforcing\n")
    assert main(["image", "--bootable", "--digest-only", str(tree)]) == 32
    assert "an SELinux policy" in capfd.readouterr().err


def test_exclude(toolbox: Toolbox, tree: Path, tmp_path: Path) -> None:
    """A pattern does not go over a slash. A directory goes with what is in it."""
    excluded = ("/var/cache/*", "/boot", "*/large", "/usr/bin/[y-z]", "/nothing")
    made = make_image.make(str(tree), changes=Changes(excluded=excluded))
    times = {path: path.stat().st_mtime_ns for path in (tree, tree / "var/cache", tree / "usr/bin")}
    shutil.rmtree(tree / "boot")
    for name in ("var/cache/c", "var/cache/d", "usr/bin/z"):
        (tree / name).unlink()
    for path, time in times.items():
        os.utime(path, ns=(0, time))
    toolbox.run("mkcomposefs", tree, tmp_path / "image")
    assert made == (tmp_path / "image").read_bytes()


def test_owner_and_times(tree: Path) -> None:
    """Each that is later, and no other; also of the root and of hard links."""
    if os.geteuid() == 0:
        os.chown(tree / "usr/large", 1000, 1001)
    before = lines(make_image.make(str(tree)))
    assert any(fields[5] != b"0" for fields in before.values())
    latest = int(before[b"/usr/bin"][7].split(b".")[0])
    made = lines(make_image.make(str(tree), changes=Changes(by_root=True, latest=latest)))
    assert made.keys() == before.keys()
    for path, fields in made.items():
        seconds, nanoseconds = map(int, before[path][7].split(b"."))
        whole = seconds < latest
        assert fields[7] == (b"%d.%d" % ((seconds, nanoseconds) if whole else (latest, 0)))
        assert fields[4:6] == [b"0", b"0"]


def test_wrong_use(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"/ 0 40755 2 0 0 0 0.0 - - -\n")
    for option in ("--bootable", "--exclude=/a", "--owner=root"):
        assert main(["image", option, "--digest-only", str(text)]) == 1
        assert "expected a directory" in capfd.readouterr().err
    for value in (None, "", "-1", "1e3", "٣", str(1 << 63), "1" * 5000):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        if value is not None:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
        assert main(["image", "--clamp-mtime", "--digest-only", str(tree)]) == 1
        assert "usage: --clamp-mtime: SOURCE_DATE_EPOCH=" in capfd.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert main(["image", "--clamp-mtime", "--digest-only", str(tree)]) == 0
