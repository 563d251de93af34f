# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image` warns of what fights a sealed root."""

import os
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import fights, image
from tests.host.store import written
from tests.host.store.played import Kernel
from tests.host.store.written import Node, directory, inline, link, stored

Capture = pytest.CaptureFixture[str]
HEX = "0a" * 32
LONG = b"#" * 100 + b"\n"


def said(tmp_path: Path, *entries: tuple[bytes, Node], content: bytes | None = None) -> list[str]:
    path = tmp_path / "image"
    path.write_bytes(written.image(directory(*sorted(entries, key=lambda entry: entry[0]))))

    def read(_: str, name: str) -> bytes:
        assert name == f"{HEX[:2]}/{HEX[2:]}"
        if content is None:
            raise FileNotFoundError
        return content

    return list(fights.found(image.read(path), read))


def root(**more: Node) -> list[tuple[bytes, Node]]:
    names = {"etc": directory(), "usr": directory(), "var": directory(), "sysroot": directory()}
    return [(name.encode(), node) for name, node in (names | more).items()]


def test_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, *root()) == []
    assert said(tmp_path, (b"a", inline(b"no root at all"))) == []


@pytest.mark.parametrize("lacks", ["etc", "usr", "var", "sysroot"])
def test_a_directory_that_is_not_there(tmp_path: Path, lacks: str) -> None:
    [warning] = said(tmp_path, *(entry for entry in root() if entry[0] != lacks.encode()))
    assert warning.startswith(f"no directory /{lacks}: ")
    [warning] = said(tmp_path, *root(**{lacks: link(b"a")}))
    assert warning.startswith(f"no directory /{lacks}: ")


@pytest.mark.parametrize(
    ("fstab", "line"),
    [
        (b"/dev/sda1 / ext4 defaults 0 1\n", 1),
        (b"# /dev/sda1 / ext4\n\n  UUID=1\t/\text4\n", 3),
        (b"LABEL=a / ext4", 1),
        (b"a / cfs image=b 0 0\n", None),
        (b"#a / ext4\na /home ext4\n/ /b none bind\n", None),
        (b"/", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("where", ["image", "store", "nowhere"])
def test_a_line_for_the_root(tmp_path: Path, fstab: bytes, line: int | None, where: str) -> None:
    node = inline(fstab) if where == "image" else stored(HEX)
    content = {"store": LONG + fstab, "nowhere": None}.get(where)
    etc = directory((b"fstab", node))
    warnings = said(tmp_path, *root(etc=etc), content=content)
    if line is None or where == "nowhere":
        assert warnings == []
        return
    [warning] = warnings
    number = line if where == "image" else line + 1
    assert warning.startswith(f"/etc/fstab:{number}: a line for /: ")


@pytest.mark.parametrize(
    ("content", "warned"),
    [(b"", False), (b"uninitialized\n", False), (b"\n", False), (b"0123" * 8 + b"\n", True)],
)
def test_machine_id(tmp_path: Path, content: bytes, warned: bool) -> None:
    warnings = said(tmp_path, *root(etc=directory((b"machine-id", inline(content)))))
    assert [warning.partition(": ")[0] for warning in warnings] == ["/etc/machine-id:1"] * warned


@pytest.mark.parametrize(
    ("init", "lost"),
    [
        (b"/lib/systemd/systemd", None),
        (b"../lib/systemd/systemd", None),
        (b"/usr/../lib/./systemd//systemd", None),
        (b"/lib/systemd/other", "/usr/lib/systemd/other"),
        (b"/nowhere/a b", "/nowhere/a b"),
        (b"../../../usr", None),
        (b"/sbin/init", "/sbin/init"),
    ],
)
def test_where_init_leads(tmp_path: Path, init: bytes, lost: str | None) -> None:
    """/sbin and /lib are links themselves, as in every distribution of today."""
    systemd = directory((b"systemd", directory((b"systemd", inline(b"elf")))))
    usr = directory((b"lib", systemd), (b"sbin", directory((b"init", link(init)))))
    links = {"lib": link(b"usr/lib"), "sbin": link(b"usr/sbin")}
    warnings = said(tmp_path, *root(usr=usr, **links))
    assert len(warnings) == (lost is not None)
    if lost:
        assert warnings[0].startswith(f"/sbin/init leads to {lost}, which is not there")


def test_what_only_root_could_read(tmp_path: Path) -> None:
    closed = stored(HEX)
    closed.mode = 0o100000
    other = stored(HEX)
    other.mode = 0o104244
    etc = directory((b"a", closed), (b"b", stored(HEX)), (b"c", other), (b"d", inline(b"")))
    [warning] = said(tmp_path, *root(etc=etc))
    assert warning.startswith("2 files that their owner may not read, /etc/a first: ")


@pytest.mark.parametrize("into_store", [False, True])
def test_of_a_directory(
    tmp_path: Path, store: Path, kernel: Kernel, capfd: Capture, into_store: bool
) -> None:
    """Contents are read from the directory, or from the store."""
    tree = tmp_path / "tree"
    for name in ("etc", "usr", "var", "sysroot"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/fstab").write_bytes(LONG + b"/dev/sda1 / ext4\n")
    (tree / "etc/machine-id").write_bytes(b"0123" * 8 + b"\n")
    options = ["--object-store", str(store)] if into_store else ["--digest-only"]
    assert main(["image", "--quiet", *options, str(tree)]) == 0
    fstab, machine = capfd.readouterr().err.splitlines()
    assert fstab.startswith(f"cfs-store: warning: {tree}: /etc/fstab:2: a line for /: ")
    assert machine.startswith(f"cfs-store: warning: {tree}: /etc/machine-id:1: an ID")
    # What is read is the file, and no other one that its name leads to.
    (tree / "etc/fstab").unlink()
    (tree / "etc/fstab").symlink_to("machine-id")
    os.truncate(tree / "etc/machine-id", 0)
    assert main(["image", "--quiet", *options, str(tree)]) == 0
    assert capfd.readouterr().err == ""
