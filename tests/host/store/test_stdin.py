# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store image -`: a text or a layer on standard input, told apart by what comes first."""

import gzip
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fuzz.dump_seeds import FILE, ROOT
from pyinit.host.store import make_image
from pyinit.host.store.stdin import Input
from tests.host.store.layered import image, tar, written
from tests.vm.once import REPOSITORY

CODE = "import sys; from pyinit.host.commands.cfs_store import main; sys.exit(main(sys.argv[1:]))"
TEXT = ROOT + b"\n" + FILE + b"\n"
LAYER = tar([("a", tarfile.REGTYPE, {}, b"a" * 300_000), ("b", tarfile.DIRTYPE, {}, b"")])


def run(data: bytes, *arguments: object) -> tuple[int, str, str]:
    """In two pieces, with a while between them, as a slow pipe has it."""
    paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
    process = subprocess.Popen(
        [sys.executable, "-B", "-S", "-c", CODE, "image", "-", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(data[:100])
    process.stdin.flush()
    out, err = process.communicate(data[100:], timeout=600)
    return process.returncode, out.decode(), err.decode()


def test_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    digest = make_image.digest(make_image.make(str(path)))
    assert run(TEXT, "--digest-only") == (0, f"{digest}\n", "")


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_layer(tmp_path: Path, compress: type[bytes]) -> None:
    digest = make_image.digest(image(written(tmp_path, [LAYER])))
    assert run(compress(LAYER), "--digest-only") == (0, f"{digest}\n", "")
    store = tmp_path / "store"
    done = run(compress(LAYER), "--object-store", store, "--create", "--verity", "off")
    assert done == (0, f"{digest}\n", "")
    # A file, whatever its position is.
    path = tmp_path / "file"
    path.write_bytes(b"before" + compress(LAYER))
    fd = os.open(path, os.O_RDONLY)
    saved = os.dup(0)
    try:
        os.lseek(fd, len(b"before"), os.SEEK_SET)
        os.dup2(fd, 0)
        found = Input()
        assert found.is_tar
        with found.layers() as parts:
            assert parts[0].start == compress(LAYER)[:512]
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(fd)


def test_what_is_neither() -> None:
    assert run(b"", "--digest-only") == (
        32, "", "cfs-store: refused: source: -: no image can be made: no file\n",
    )  # fmt: skip
    code, _, said = run(LAYER[:5000], "--digest-only")
    assert (code, "source: -: " in said, said.count("\n")) == (32, True, 1)
    assert "it ends in the middle of a file" in said
    code, _, said = run(b"x" * 5000, "--digest-only")
    assert (code, "source: -: line 1: " in said) == (32, True)


def test_it_cannot_be_read() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-B", "-S", "-c", CODE, "image", "-",
         "--digest-only"],
        capture_output=True, text=True, timeout=600, check=False,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/build/lib", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "cfs-store: error: source: -: Bad file descriptor (EBADF)\n"


def test_it_can_be_interrupted_while_nothing_comes(tmp_path: Path) -> None:
    """The pipe stays open, and nobody writes."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-B", "-S", "-c", CODE, "image", "-", "-o", str(tmp_path / "out")],
        stdin=read, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/build/lib", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    os.close(read)
    try:
        os.write(write, LAYER[:60_000])
        task = Path(f"/proc/{process.pid}/task")
        while len(os.listdir(task)) < 2:  # the engine reads
            assert process.poll() is None
        process.terminate()
        assert "interrupted" in process.communicate(timeout=60)[1]
    finally:
        os.close(write)
    assert process.returncode == 2
    assert os.listdir(tmp_path) == []
