# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A policy that enforces on a tree without labels is told of where image or initrd are made."""

import os
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
