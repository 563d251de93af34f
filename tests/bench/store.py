# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verbs of cfs-store on one store, beside the tools of peers that do the same.

The files are made here: sizes as in a root of Debian, contents of no meaning. All is in the page
cache. cfsctl is looked for in PATH.
"""

import hashlib
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
IMAGES, ENTRIES, DIRECTORIES, UNUSED = 20, 64_246, 3000, 3000
_MEASURED = 1 << 30  # Python's start is not to be seen in it
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
        large.write_bytes(random.Random(1).randbytes(1 << 20) * (_MEASURED >> 20))
        ours = _least(lambda: _store("measure", large), ROUNDS)
        speed = _MEASURED / _openssl_speed()
        named = f"measure of {_MEASURED / 1e6:,.0f} MB"
        lines.append(f"{named:24}{ours:10.2f}{speed:10.2f}  openssl speed, all cores")
        large.unlink()
        many = place / "many"
        _fill_with_images(many, place / "dump", place / "one.cfs")
        ours = _least(lambda: _store("gc", "--no-uki", "--dry-run", many), ROUNDS)
        theirs = f"{'-':>10}"
        if cfsctl:
            collect = [cfsctl, "--repo", str(many), "gc", "--dry-run"]
            theirs = f"{_least(lambda: _run(collect), ROUNDS):10.2f}"
        lines.append(f"{f'gc, {IMAGES} images':24}{ours:10.2f}{theirs}  cfsctl gc")
        return lines


def _fill_with_images(store: Path, dump: Path, image: Path) -> None:
    """A repository of IMAGES images that share all but a hundredth of their objects, and some that
    nothing needs. Objects have no content: nobody who collects reads it."""
    made: set[str] = set()
    for number in range(IMAGES):
        lines, digests = _tree_of_names(number)
        dump.write_text("\n".join(lines) + "\n")
        _store("image", "-o", image, dump)
        _store(
            "add", "-q", "--create", "--verity", "off", "--hash", "sha256", "--allow-missing",
            "--object-store", store, "--image", image,
        )  # fmt: skip
        made |= digests
    for digits in made | {_digits(f"unused {number}") for number in range(UNUSED)}:
        path = store / "objects" / digits[:2] / digits[2:]
        path.parent.mkdir(exist_ok=True)
        path.touch()


def _tree_of_names(number: int) -> tuple[list[str], set[str]]:
    """composefs-dump(5), and the objects it needs."""
    lines = ["/ 4096 40755 2 0 0 0 0.0 - - -"]
    lines += [f"/{at:04} 4096 40755 2 0 0 0 0.0 - - -" for at in range(DIRECTORIES)]
    digests = set()
    for at in range(ENTRIES - len(lines)):
        own = at % 97 == number
        digits = _digits(f"{at} of {number if own else 'all'}")
        digests.add(digits)
        path = f"/{at % DIRECTORIES:04}/a-name-of-usual-length-{at}"
        content = f"{digits[:2]}/{digits[2:]} - {digits}"
        lines.append(f"{path} 5000 100644 1 0 0 0 0.0 {content}")
    return lines, digests


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    """Bytes a second by the clock, as ours are counted, in blocks as fs-verity has them."""
    cores = str(len(os.sched_getaffinity(0)))
    command = ["openssl", "speed", "-multi", cores, "-bytes", "4096", "-seconds", "2"]
    done = subprocess.run(
        [*command, "-elapsed", "-evp", "sha256"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return float(done.stdout.splitlines()[-1].split()[-1].removesuffix("k")) * 1000
