# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The definition of our NvPCR, and what the module for dracut puts into an initrd for it."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEFINITION = ROOT / "dracut-module/composefs.nvpcr"
MODULE = ROOT / "dracut-module/90cfs/module-setup.sh"
OURS = "usr/lib/composefs/composefs.nvpcr"
# What dracut has: each prints what it was given, and installs it where the tree has it.
DRACUT = """
dwarn() { echo "warning: $*"; }
inst_simple() { mkdir -p "$initdir${2%/*}"; cp "$dracutsysrootdir$1" "$initdir$2"; }
inst_libdir_file() { echo "library: $*"; }
inst_multiple() {
    shift
    for file; do
        [ ! -e "$dracutsysrootdir$file" ] || inst_simple "$file" "$file"
    done
}
. "$1"
_cfs_install_nvpcr
"""
PROGRAM, SOCKET = "/usr/lib/systemd/systemd-pcrextend", "/units/systemd-pcrextend.socket"


def test_the_index_is_drawn_as_the_page_says() -> None:
    """From those of the owner, 22 bits of them."""
    definition = json.loads(DEFINITION.read_text())
    drawn = int.from_bytes(hashlib.sha256(b"composefs.nvpcr").digest()[:4], "big") & 0x3FFFFF
    assert definition["nvIndex"] == 0x01800000 + drawn
    page = (ROOT / "docs/howto/tpm.md").read_text()
    assert f"Ours is 0x{definition['nvIndex']:08x}." in page
    assert (definition["name"], definition["algorithm"]) == ("composefs", "sha256")
    assert f"ours has {definition['priority']}" in page


def install(tmp_path: Path, name: str | None, *there: str) -> tuple[str, set[str]]:
    """What is said, and the files of the initrd."""
    tree, initrd = tmp_path / "tree", tmp_path / "initrd"
    for path in there:
        (tree / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tree / path.lstrip("/")).write_text(path)
    conf = initrd / "usr/lib/composefs/setup-root.conf"
    if name is not None:
        conf.parent.mkdir(parents=True)
        conf.write_text(f"cfsconf1\nmeasure-pcr=8\nmeasure-nvpcr={name}\nroot=sealed\n")
    done = subprocess.run(
        ["bash", "-c", DRACUT, "bash", MODULE], capture_output=True, text=True, check=True,
        timeout=600,
        env={
            "PATH": "/usr/bin:/bin", "dracutsysrootdir": str(tree), "initdir": str(initrd),
            "systemdutildir": "/usr/lib/systemd", "systemdsystemunitdir": "/units",
        },
    )  # fmt: skip
    assert done.stderr == ""
    files = {str(path.relative_to(initrd)) for path in initrd.rglob("*") if path.is_file()}
    return done.stdout, files - {str(conf.relative_to(initrd))}


@pytest.mark.parametrize("name", [None, ""])
def test_nothing_where_none_is_configured(tmp_path: Path, name: str | None) -> None:
    assert install(tmp_path, name, OURS, PROGRAM, SOCKET) == ("", set())


@pytest.mark.parametrize(
    ("name", "there", "taken"),
    [
        ("composefs", (OURS,), OURS),
        ("composefs", (OURS, "usr/lib/nvpcr/composefs.nvpcr"), "usr/lib/nvpcr/composefs.nvpcr"),
        ("own", (OURS, "usr/lib/nvpcr/own.nvpcr", "etc/nvpcr/own.nvpcr"), "etc/nvpcr/own.nvpcr"),
    ],
)
def test_its_definition_and_who_is_asked(
    tmp_path: Path, name: str, there: tuple[str, ...], taken: str
) -> None:
    said, files = install(tmp_path, name, PROGRAM, SOCKET, *there)
    place = f"usr/lib/nvpcr/{name}.nvpcr"
    assert files == {place, PROGRAM[1:], SOCKET[1:]}
    assert (tmp_path / "initrd" / place).read_text().strip("/") == taken
    assert "warning" not in said
    assert "libtss2-esys.so.*" in said


@pytest.mark.parametrize(
    ("name", "there", "missing"),
    [
        ("composefs", (PROGRAM, SOCKET), "there is no composefs.nvpcr in /etc/nvpcr"),
        ("own", (OURS, PROGRAM, SOCKET), "there is no own.nvpcr in /etc/nvpcr"),
        ("composefs", (OURS, SOCKET), f"there is no {PROGRAM} (Debian: systemd-tpm)"),
        ("composefs", (OURS, PROGRAM), f"there is no {SOCKET} (Debian: systemd-tpm)"),
    ],
)
def test_what_is_missing_is_told(
    tmp_path: Path, name: str, there: tuple[str, ...], missing: str
) -> None:
    said, _ = install(tmp_path, name, *there)
    [warning] = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert warning.startswith("warning: cfs: [measure] nvpcr: ")
    assert missing in warning
