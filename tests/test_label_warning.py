# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A policy that enforces on a tree without labels is told of where image or initrd are made, and so
is a line for / in fstab."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENFORCING = "# comment\nSELINUX=enforcing\nSELINUXTYPE=default\n"
# (of etc/selinux/config, label of /usr, is there a warning)
CASES = [
    (ENFORCING, None, True),
    (ENFORCING, b"system_u:object_r:usr_t:s0\0", False),
    ("SELINUX=permissive\n#SELINUX=enforcing\n", None, False),
    (None, None, False),
]
DRACUT = 'dwarn() { echo "$*"; }; . "$1"; _cfs_warn_of_labels'


def tree(path: Path, config: str | None, label: bytes | None) -> Path:
    (path / "usr").mkdir()
    if label is not None:
        try:
            os.setxattr(path / "usr", "security.selinux", label)
        except PermissionError:
            pytest.skip("labels need CAP_SYS_ADMIN, which root has not got in this container")
    if config is not None:
        (path / "etc/selinux").mkdir(parents=True)
        (path / "etc/selinux/config").write_text(config)
    return path


@pytest.mark.parametrize(
    ("fstab", "warned"),
    [
        ("UUID=1 / ext4 defaults 0 1\n", True),
        ("# root\n  /dev/vda2\t/\text4\n", True),
        ("/composefs / cfs digest=1 0 0\n", False),
        ("# UUID=1 / ext4 defaults 0 1\nUUID=2 /boot ext4 defaults 0 1\n", False),
        ("UUID=2 /home ext4 x=/ 0 / \n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_line_for_the_root_is_told(tmp_path: Path, fstab: str | None, warned: bool) -> None:
    """systemd remounts the root by it, with options of another file system."""
    (tmp_path / "etc").mkdir()
    if fstab is not None:
        (tmp_path / "etc/fstab").write_text(fstab)
    module = str(ROOT / "dracut-module/90cfs/module-setup.sh")
    script = 'dwarn() { echo "$*"; }; . "$1"; _cfs_warn_of_fstab'
    text = said(["bash", "-c", script, "bash", module], dracutsysrootdir=str(tmp_path))
    assert text.startswith(f"cfs: {tmp_path}/etc/fstab has a line for /: ") == warned
    assert bool(text) == warned
    finalize = str(ROOT / "dracut-module/mkosi/mkosi.finalize")
    text = said(["sh", finalize], BUILDROOT=str(tmp_path), ARTIFACTDIR="/nowhere")
    assert ("/etc/fstab of the image has a line for /" in text) == warned, text


def test_all_hooks_ask_alike() -> None:
    """That of initramfs-tools needs its functions to run: tests/vm boots what it makes."""
    files = ("90cfs/module-setup.sh", "mkosi/mkosi.finalize", "initramfs-tools/hook")
    asked = [
        re.findall(r"grep (?:-Eqs|-qs|-q) '(.+?)'", (ROOT / "dracut-module" / name).read_text())
        for name in files
    ]
    assert len(asked[0]) == 4
    assert sorted(asked[0]) == sorted(asked[1]) == sorted(asked[2])


def said(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=False, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set a label")
@pytest.mark.parametrize(
    ("config", "label", "warned"), CASES, ids=["without", "labelled", "permissive", "no policy"]
)
def test_a_tree_without_labels_is_told(
    tmp_path: Path, config: str | None, label: bytes | None, warned: bool
) -> None:
    made = str(tree(tmp_path, config, label))
    module = str(ROOT / "dracut-module/90cfs/module-setup.sh")
    text = said(["bash", "-c", DRACUT, "bash", module], dracutsysrootdir=made)
    assert bool(text) == warned, text
    assert not warned or f"{made}/usr has no label" in text
    # It ends at its next line: the store is not made here.
    finalize = str(ROOT / "dracut-module/mkosi/mkosi.finalize")
    text = said(["sh", finalize], BUILDROOT=made, ARTIFACTDIR="/nowhere")
    assert ("/usr has no\n  label" in text) == warned, text
