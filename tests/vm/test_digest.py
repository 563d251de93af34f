# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A file's digest by four: the kernel through the core, the kernel through another program,
our own computation, and the tool of fsverity-utils."""

import _cfs
import random
import subprocess
from pathlib import Path

import pytest

from pyinit.host.store.fsverity import BLOCK_SIZE, digest_of
from pyinit.initrd.root.digest import ALGORITHMS
from tests.core import build as core_build

from .cases import Case, Result, run_cases
from .disks import ext4
from .guest import Disk
from .initrd import GUEST_MODULES, HASH_MODULES
from .once import REPOSITORY
from .target import compiler
from .toolbox import Toolbox
from .tools import SOURCES

pytestmark = pytest.mark.vm

# Around one block, and around where a tree gets another level: 64 hashes of SHA-512 or 128 of
# SHA-256 fill a block.
EDGES = (BLOCK_SIZE, 64 * BLOCK_SIZE, 128 * BLOCK_SIZE)
SIZES = (0, 1, *(edge + more for edge in EDGES for more in (-1, 0, 1)), 200 * BLOCK_SIZE + 77)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """<algorithm>/<size>, and the same content, or holes, under both algorithms."""
    directory = tmp_path_factory.mktemp("digest") / "tree"
    for algorithm in ALGORITHMS:
        (directory / str(algorithm)).mkdir(parents=True)
        for size in SIZES:
            (directory / str(algorithm) / str(size)).write_bytes(
                random.Random(size).randbytes(size)
            )
        with (directory / str(algorithm) / "holes").open("wb") as file:
            file.truncate(70 * BLOCK_SIZE + 5)
    return directory


@pytest.fixture(scope="module")
def sealed(toolbox: Toolbox, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a guest printed."""
    directory = tmp_path_factory.mktemp("sealed")
    program = directory / "core-digest"
    sources = [SOURCES / "core-digest.c", *core_build.CORE]
    flags = ("-std=gnu17", "-static", "-O1", "-Wall", "-Werror", f"-I{REPOSITORY / 'csrc'}")
    subprocess.run([compiler(), *flags, "-o", program, *sources], check=True, timeout=600)
    script = "cd /disk; for a in 1 2; do core-digest $a $a/* || exit; done; echo --; "
    script += "for file in [12]/*; do measure $file || exit; echo $file; done"
    results = run_cases(
        toolbox,
        toolbox.kernel("stable"),
        [Case("digests", script, limit=60)],
        setup="mount -t ext4 /dev/vda /disk",
        modules=(*GUEST_MODULES, *HASH_MODULES),
        disks=[Disk(ext4(toolbox, directory / "disk", tree))],
        files={"usr/bin/core-digest": program},
    )
    return results.check("digests")


def test_all_agree(toolbox: Toolbox, tree: Path, sealed: Result) -> None:
    by_core, by_other = (part.splitlines() for part in sealed.stdout.split("--\n"))
    core = {path: (int(kind), hex_) for kind, hex_, path in map(str.split, by_core)}
    other = dict(zip(by_other[1::2], by_other[::2], strict=True))
    assert len(core) == len(other) == len(ALGORITHMS) * (len(SIZES) + 1)
    for path, (kind, hex_) in core.items():
        name = ALGORITHMS[kind]
        assert path.startswith(f"{kind}/")
        assert other[path] == f"{name}:{hex_}"
        with (tree / path).open("rb") as file:
            assert digest_of(file.fileno(), kind).hex == hex_, path
        tool = toolbox.run("fsverity", "digest", "--compact", f"--hash-alg={name}", tree / path)
        assert tool.strip() == hex_, path
    # One content, two digests; and the text goes through the parser.
    for _, hex_ in core.values():
        assert _cfs.digest_format(_cfs.digest_parse(hex_.encode())) == hex_
