# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verbs of cfs-store on one store, beside the tools of peers that do the same.

The files are made here: sizes as in a root of Debian, contents of no meaning. All is in the page
cache. cfsctl is looked for in PATH.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.vm.toolbox import Toolbox

FILES = 42_559
ROUNDS = 3
# Of the sizes of such a root: a tenth each, the largest cut.
_SIZES = (180, 600, 1200, 2100, 3600, 6000, 10_500, 20_000, 45_000, 180_000)


def figures() -> list[str]:
    """Lines of a table: what was done, the least seconds, and those of the peer."""
    toolbox = Toolbox()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        size = _fill(place / "tree")
        made = place / "made"
        image = place / "root.cfs"

        def mkcomposefs() -> None:
            shutil.rmtree(made, ignore_errors=True)
            (made / "objects").mkdir(parents=True)
            toolbox.run("mkcomposefs", f"--digest-store={made}/objects", place / "tree", image)

        def add() -> None:
            shutil.rmtree(place / "new", ignore_errors=True)
            _store(
                "add", "--create", "--verity", "off", "--object-store", place / "new",
                "--image", image, made / "objects",
            )  # fmt: skip

        peers = _least(mkcomposefs, 1)
        lines = [
            f"{FILES:,} files, {size / 1e6:,.0f} MB, seconds:",
            f"{'add':24}{_least(add, ROUNDS):10.2f}{peers:10.2f}  mkcomposefs --digest-store",
        ]
        info = _least(lambda: toolbox.run("composefs-info", "objects", image), ROUNDS)
        ours = _least(lambda: _store("objects", image), ROUNDS)
        lines.append(f"{'objects':24}{ours:10.2f}{info:10.2f}  composefs-info objects")
        ours = _least(lambda: _store("check", place / "new"), ROUNDS)
        if cfsctl := shutil.which("cfsctl"):
            fsck = [cfsctl, "--repo", str(place / "new"), "fsck"]
            theirs = f"{_least(lambda: _run(fsck), ROUNDS):10.2f}"
        else:
            theirs = f"{'-':>10}"
        lines.append(f"{'check':24}{ours:10.2f}{theirs}  cfsctl fsck")
        large = place / "large"
        large.write_bytes(random.Random(1).randbytes(1 << 20) * 256)
        ours = _least(lambda: _store("measure", large), ROUNDS)
        speed = (1 << 28) / _openssl_speed()
        lines.append(f"{'measure of 268 MB':24}{ours:10.2f}{speed:10.2f}  openssl speed, all cores")
        return lines


def _fill(tree: Path) -> int:
    chance = random.Random(12)
    total = 0
    for number in range(FILES):
        path = tree / f"{number % 256:02x}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = chance.randrange(1, 2 * chance.choice(_SIZES))
        path.write_bytes(chance.randbytes(size))
        total += size
    return total


def _least(action: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        os.sync()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _store(*arguments: str | Path) -> None:
    program = "from pyinit.host.commands.cfs_store import main; raise SystemExit(main())"
    _run([sys.executable, "-S", "-c", program, *map(str, arguments)])


def _run(command: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=900)


def _openssl_speed() -> float:
    """Bytes a second, in blocks as fs-verity has them."""
    cores = str(len(os.sched_getaffinity(0)))
    command = ["openssl", "speed", "-multi", cores, "-bytes", "4096", "-seconds", "1"]
    done = subprocess.run(
        [*command, "-evp", "sha256"], capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout.splitlines()[-1].split()[-1].removesuffix("k")) * 1000
