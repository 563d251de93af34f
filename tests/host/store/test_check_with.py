# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image --check-with`: the same bytes, or no image."""

import os
from pathlib import Path

import pytest

from fuzz import tar_seeds
from pyinit.host.commands.cfs_store import main
from tests.host.store.played import Kernel, files
from tests.vm.toolbox import Toolbox

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/file").write_bytes(b"x" * 100)
    (tree / "link").symlink_to("d")
    return tree


def program(place: Path, script: str) -> str:
    path = place / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_mkcomposefs(
    toolbox: Toolbox, tree: Path, store: Path, kernel: Kernel, tmp_path: Path, capfd: Capture
) -> None:
    """Of each kind of source, and with changes."""
    [peer] = toolbox.command("mkcomposefs")
    text, tar = tmp_path / "text", tmp_path / "tar"
    text.write_bytes(b"/ 0 40755 2 0 0 0 0.0 - - -\n/a 1 100644 1 0 0 0 5.5 - c -\n")
    tar.write_bytes(tar_seeds.file(b"d/f", b"c" * 100) + tar_seeds.END)
    for arguments in (
        [tree], [text], [tar], [tree, "--clamp-mtime"], [tree, "--min-version=1"],
    ):  # fmt: skip
        os.environ["SOURCE_DATE_EPOCH"] = "5"
        command = ["image", "--check-with", peer, "--digest-only", *arguments]
        assert main([str(word) for word in command]) == 0, arguments
        assert capfd.readouterr().err == ""
    assert main(["image", "--check-with", peer, "--object-store", str(store), str(tree)]) == 0


@pytest.mark.parametrize(
    "options", [["--hash", "sha512"], ["--hash", "sha512", "--object-store", "new", "--create"], []]
)
def test_a_store_of_sha512(
    tree: Path, tmp_path: Path, capfd: Capture, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkcomposefs has none, so it would make another image of every tree. Nothing is made."""
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    assert main(["add", "--object-store", str(there), "--create", "--verity", "off", "--hash",
                 "sha512", str(tree / "d/file")]) == 0  # fmt: skip
    before = files(there)
    options = options or ["--object-store", str(there)]
    where = [] if "--object-store" in options else ["--digest-only"]
    capfd.readouterr()
    assert main(["image", "--check-with", "absent", *options, *where, str(tree)]) == 1
    said = "cfs-store: error: usage: --check-with: digests of sha512, and mkcomposefs has sha256 "
    assert capfd.readouterr().err == f"{said}alone, expected a store of sha256, or none\n"
    assert files(there) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("cat; echo", 32, "makes another image, expected the same bytes: report this"),
        ("echo first >&2; echo 'it fails' >&2; exit 1", 32, "makes no image: it fails"),
        (None, 2, "it cannot be run: No such file or directory, expected without --check-with"),
    ],
)
def test_another_one(
    tree: Path,
    store: Path,
    tmp_path: Path,
    kernel: Kernel,
    capfd: Capture,
    script: str | None,
    code: int,
    said: str,
) -> None:
    """And nothing is left of ours."""
    other = str(tmp_path / "absent") if script is None else program(tmp_path, script)
    out = tmp_path / "out"
    for where in (["-o", out], ["--object-store", store]):
        command = ["image", "--check-with", other, *where, tree]
        assert main([str(word) for word in command]) == code
        output = capfd.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert said in output.err
    assert not out.exists()
    assert not [path for path in (store / "images").rglob("*") if path.is_symlink()]


def test_it_reads_the_directory_itself(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    """Where nothing is changed: not what we have made of it."""
    log = tmp_path / "log"
    other = program(tmp_path, f'echo "$@" >>{log}; cat >>{log}')
    for options, expected in (
        ((), f"--min-version=0 --max-version=1 {tree} -\n"),
        (("--exclude=/d/*",), "--min-version=0 --max-version=1 --from-file - -\n/ "),
    ):
        log.write_text("")
        assert main(["image", "--check-with", other, "--digest-only", *options, str(tree)]) == 32
        assert log.read_text().startswith(expected)
