# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store add` and `image` tell of a policy that enforces in an image without labels."""

import os
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from pyinit.host.store import image, labels
from tests.host.store import written
from tests.host.store.played import Kernel
from tests.host.store.written import Node, directory, inline, link, stored

Capture = pytest.CaptureFixture[str]

ENFORCING = b"# comment\nSELINUX=enforcing\nSELINUXTYPE=default\n"
PERMISSIVE = b"SELINUX=permissive\n#SELINUX=enforcing\n"
LABEL = [(written.SECURITY, b"selinux", b"system_u:object_r:usr_t:s0\0")]
OTHER = [(written.SECURITY, b"ima", b"security.selinux=\0")]
HEX = "0a" * 32


def tree(config: Node | None, usr: Node | None) -> bytes:
    etc = directory() if config is None else directory((b"selinux", directory((b"config", config))))
    return written.image(directory((b"etc", etc), *(() if usr is None else ((b"usr", usr),))))


@pytest.mark.parametrize(
    ("config", "usr", "warned"),
    [
        (inline(ENFORCING), directory(), True),
        (inline(ENFORCING), directory(xattrs=OTHER), True),
        (inline(ENFORCING), directory(xattrs=LABEL), False),
        (inline(ENFORCING), None, False),
        (inline(PERMISSIVE), directory(), False),
        (inline(b""), directory(), False),
        (link(b"SELINUX=enforcing"), directory(), False),
        (stored(HEX), directory(), True),
        (stored(HEX, nlink=2), directory(), True),
        (stored("1b" * 32), directory(), False),
        (None, directory(), False),
    ],
)
def test_which_images(tmp_path: Path, config: Node | None, usr: Node | None, warned: bool) -> None:
    path = tmp_path / "image"
    path.write_bytes(tree(config, usr))

    def content(name: str) -> bytes:
        if name != f"{HEX[:2]}/{HEX[2:]}":
            raise FileNotFoundError
        return ENFORCING

    assert labels.missing(image.read(path), content) == warned


def test_the_dump_comes_in_pieces() -> None:
    """Wherever they are cut."""
    text = b"/ a\n/usr b c\n/usr2 d\n/x e\n"
    for cut in range(len(text)):
        lines = labels.Lines((b"/usr", b"/x"))
        lines.write(text[:cut])
        lines.write(text[cut:])
        assert lines.found == {b"/usr": [b"/usr", b"b", b"c"], b"/x": [b"/x", b"e"]}


@pytest.mark.parametrize("label", [None, LABEL])
def test_add(
    tmp_path: Path, store: Path, kernel: Kernel, capsys: Capture, label: list[written.Xattr] | None
) -> None:
    """What the policy says is an object of the store, as with most distributions."""
    config = tmp_path / "config"
    config.write_bytes(ENFORCING + b"#" * 100)
    assert main(["add", "--quiet", "--object-store", str(store), str(config)]) == 0
    digest = capsys.readouterr().out.strip().removeprefix("sha256:")
    path = tmp_path / "root.cfs"
    usr = directory(xattrs=label or [])
    path.write_bytes(tree(stored(digest, size=config.stat().st_size), usr))
    assert main(["add", "--quiet", "--object-store", str(store), "--image", str(path)]) == 0
    said = capsys.readouterr().err
    assert said == ("" if label else f"cfs-store: warning: {path}: {labels.WARNING}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set a label")
@pytest.mark.parametrize("size", [0, 100], ids=["in the image", "an object"])
@pytest.mark.parametrize("label", [None, b"system_u:object_r:usr_t:s0\0"])
def test_image_of_a_directory(
    tmp_path: Path, capsys: Capture, size: int, label: bytes | None
) -> None:
    made = tmp_path / "tree"
    (made / "usr").mkdir(parents=True)
    for name in ("etc/selinux", "sysroot", "var"):
        (made / name).mkdir(parents=True)
    (made / "etc/selinux/config").write_bytes(ENFORCING + b"#" * size)
    if label is not None:
        try:
            os.setxattr(made / "usr", "security.selinux", label)
        except PermissionError:
            pytest.skip("labels need CAP_SYS_ADMIN, which root has not got in this container")
    assert main(["image", "--quiet", "--digest-only", str(made)]) == 0
    said = capsys.readouterr().err
    assert said == ("" if label else f"cfs-store: warning: {made}: {labels.WARNING}\n")


@pytest.mark.parametrize("label", ["", " security.selinux=a"])
def test_image_of_a_text(tmp_path: Path, capsys: Capture, label: str) -> None:
    text = tmp_path / "dump"
    directories = "".join(
        f"{path} 0 40755 2 0 0 0 0.0 - - -\n"
        for path in ("/", "/etc", "/etc/selinux", "/sysroot", "/var")
    )
    text.write_text(
        f"{directories}/etc/selinux/config 18 100644 1 0 0 0 0.0 - SELINUX=enforcing\\n -\n"
        f"/usr 0 40755 2 0 0 0 0.0 - - -{label}\n"
    )
    assert main(["image", "--digest-only", str(text)]) == 0
    said = capsys.readouterr().err
    assert said == ("" if label else f"cfs-store: warning: {text}: {labels.WARNING}\n")
