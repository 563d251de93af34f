# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store`: its exit codes. What the verbs do is in tests/host/store."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pyinit.host.commands.cfs_store import main
from tests.host.store import containers
from tests.host.store.layered import tar


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["add", "file"], 1),
        (["add", "--object-store", "DIR"], 1),
        (["add", "--object-store", "DIR", "--hash", "md5", "file"], 1),
        (["add", "--object-store", "DIR", "absent"], 2),
        (["seal", "absent"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    assert main([str(tmp_path) if word == "DIR" else word for word in arguments]) == code


def imported(command: str, *arguments: object, code: int = 0) -> set[str]:
    """Every module, in a process of its own."""
    program = (
        f"import sys; from pyinit.host.commands.{command} import main; code = main(sys.argv[1:])\n"
        "print(*sorted(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *map(str, arguments)], text=True,
        capture_output=True, check=False, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    loaded = set(done.stdout.split())
    assert "pyinit.host.commands.command" in loaded
    return loaded


@pytest.mark.parametrize("command", ["cfs_store", "cfs_uki"])
def test_what_a_verb_needs_is_imported_by_the_verb(command: str) -> None:
    """`--version` waits for no engine, no hashes and no threads."""
    late = {
        "_cfshost",
        "_hashlib",
        "concurrent.futures",
        "dataclasses",
        "json",
        "pathlib",
        "shutil",
        "tempfile",
    }
    assert imported(command, "--version") & late == set()


# What others import too, and each takes milliseconds: concurrent.futures and its logging (5);
# dataclasses and its inspect (3, and 0.5 for each class); ctypes (1), which --selinux needs, and
# subprocess (1), which --check-with needs; shutil, and with it bz2 and lzma (1.5), which argparse
# imports for each option unless it knows how wide the terminal is; OpenSSL for hashes (1.5).
_SLOW = {
    "_ctypes",
    "_hashlib",
    "concurrent.futures",
    "ctypes",
    "dataclasses",
    "inspect",
    "logging",
    "shutil",
    "subprocess",
}


@pytest.mark.parametrize("verity", ["off", "auto"])
def test_a_container_image_waits_for_no_slow_import(tmp_path: Path, verity: str) -> None:
    """It has all of them to itself: nothing is read until they are done. A third of the time that
    a small image takes was theirs."""
    layer = tar([("d", tarfile.DIRTYPE, {}, b""), ("f", tarfile.REGTYPE, {}, b"content" * 99)])
    archive = tmp_path / "archive"
    archive.write_bytes(containers.one(tmp_path / "layout", [layer]).archive())
    loaded = imported(
        "cfs_store", "image", "--create", "--verity", verity, "--object-store", tmp_path / "store",
        f"oci-archive:{archive}",
    )  # fmt: skip
    assert {"_cfshost", "pyinit.host.store.oci", "pyinit.host.store.threads"} <= loaded
    assert loaded & _SLOW == set()


@pytest.mark.parametrize(
    ("command", "line", "code"),
    [
        ("cfs_store", "add --object-store STORE --verity off /etc/passwd", 0),
        ("cfs_store", "check STORE", 32),
        ("cfs_store", "gc --no-uki STORE", 0),
        ("cfs_store", "images --no-uki STORE", 0),
        ("cfs_store", "rm --no-uki --object-store STORE NAME", 2),
        ("cfs_store", "seal STORE", 32),
        ("cfs_uki", "show /etc/passwd", 32),
        ("cfs_uki", "seal --digest DIGEST -o STORE/uki /etc/passwd", 32),
    ],
)
def test_nor_does_another_verb(command: str, line: str, code: int, tmp_path: Path) -> None:
    for name in ("objects", "images/refs"):
        (tmp_path / "store" / name).mkdir(parents=True)
    digest = "ab" * 32
    words = line.replace("STORE", str(tmp_path / "store")).replace("DIGEST", digest).split()
    loaded = imported(command, *words, code=code)
    assert {"pyinit.host.store.layout", "pyinit.host.uki.read"} & loaded
    assert loaded & _SLOW == set()
