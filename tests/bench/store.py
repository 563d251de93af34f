# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The verbs of cfs-store on one store, beside the tools of peers that do the same.

The files are made here: sizes as in a root of Debian, contents of no meaning. All is in the page
cache. cfsctl is looked for in PATH.

Each run that writes has a place of its own, and nothing is removed before the end: for some minutes
ext4 passes over inodes that were removed, one by one for each new file, which took three times as
long as all else did.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.toolbox import Toolbox

Action = Callable[[], int]

FILES = 42_559
ROUNDS = 3
WRITES = 2  # of what writes: 8 GB in all
IMAGES, ENTRIES, DIRECTORIES, UNUSED = 20, 64_246, 3000, 3000
_MEASURED = 1 << 30  # Python's start is not to be seen in it
# Of the sizes of such a root: a tenth each, the largest cut.
_SIZES = (180, 600, 1200, 2100, 3600, 6000, 10_500, 20_000, 45_000, 180_000)


def figures() -> list[str]:
    """Lines of a table: what was done, the least seconds of ours and of a peer, in turn, and the
    memory of ours at most, in MB."""
    toolbox = Toolbox()
    cfsctl = shutil.which("cfsctl")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        size = _fill(place / "tree")
        many, large, image = place / "many", place / "large", place / "root.cfs"
        made, new = Fresh(place, "made"), Fresh(place, "new")

        def mkcomposefs() -> int:
            objects = made.next() / "objects"
            objects.mkdir(parents=True)
            command = toolbox.command("mkcomposefs")
            return run([*command, f"--digest-store={objects}", place / "tree", image])

        def add() -> int:
            return cfs_store(
                "add", "--create", "--verity", "off", "--object-store", new.next(),
                "--image", image, made.last / "objects",
            )  # fmt: skip

        def make() -> int:
            return cfs_store(
                "image", "--create", "--verity", "off", "--object-store", new.next(), place / "tree"
            )

        def objects() -> int:
            return run([*toolbox.command("composefs-info"), "objects", image])

        def peer(store: Path, *arguments: str) -> Action | None:
            return (lambda: run([cfsctl, "--repo", store, *arguments])) if cfsctl else None

        [(whole, memory), (slow, _)] = least(WRITES, make, mkcomposefs)
        [(quick, peak)] = least(WRITES, add)
        [(alone, little)] = least(
            ROUNDS, lambda: cfs_store("image", "--digest-only", place / "tree")
        )
        lines = [
            f"{FILES:,} files, {size / 1e6:,.0f} MB: seconds of ours and of the peer, and MB",
            line("add", quick, slow, peak, "mkcomposefs --digest-store"),
            line("image --object-store", whole, slow, memory, "mkcomposefs --digest-store"),
            line("image --digest-only", alone, None, little, ""),
            beside("objects", lambda: cfs_store("objects", image), objects, "composefs-info"),
            beside(
                "check",
                lambda: cfs_store("check", new.last),
                peer(new.last, "fsck"),
                "cfsctl fsck",
            ),
        ]
        # In pieces: what this process has had in memory counts as its children's too.
        piece = random.Random(1).randbytes(1 << 20)
        with large.open("wb") as file:
            for _ in range(_MEASURED >> 20):
                file.write(piece)
        [(seconds, peak)] = least(ROUNDS, lambda: cfs_store("measure", large))
        named = f"measure of {_MEASURED / 1e6:,.0f} MB"
        rate = _MEASURED / _openssl_speed()
        lines.append(line(named, seconds, rate, peak, "openssl speed, all cores"))
        large.unlink()
        _fill_with_images(many, place / "dump", place / "one.cfs")
        gc = beside(
            f"gc, {IMAGES} images",
            lambda: cfs_store("gc", "--no-uki", "--dry-run", many),
            peer(many, "gc", "--dry-run"),
            "cfsctl gc",
        )
        return [*lines, gc]


@dataclass
class Fresh:
    """A new place for each run."""

    directory: Path
    name: str
    count: int = 0

    def next(self) -> Path:
        self.count += 1
        return self.last

    @property
    def last(self) -> Path:
        return self.directory / f"{self.name}{self.count}"


def beside(what: str, ours: Action, theirs: Action | None, peer: str) -> str:
    (seconds, peak), *others = least(ROUNDS, ours, *([theirs] if theirs else []))
    return line(what, seconds, others[0][0] if others else None, peak, peer)


def line(what: str, ours: float, theirs: float | None, peak: int, peer: str) -> str:
    shown = f"{theirs:10.2f}" if theirs is not None else f"{'-':>10}"
    return f"{what:24}{ours:10.2f}{shown}{peak / 1000:8.0f}  {peer}"


def _fill_with_images(store: Path, dump: Path, image: Path) -> None:
    """A repository of IMAGES images that share all but a hundredth of their objects, and some that
    nothing needs. Objects have no content: nobody who collects reads it."""
    made: set[str] = set()
    for number in range(IMAGES):
        lines, digests = _tree_of_names(number)
        dump.write_text("\n".join(lines) + "\n")
        cfs_store("image", "-o", image, dump)
        cfs_store(
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


def least(rounds: int, *actions: Action) -> list[tuple[float, int]]:
    """Of each, in turn: the least seconds, and its memory at most, in KB."""
    times: list[list[tuple[float, int]]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, found in zip(actions, times, strict=True):
            os.sync()
            start = time.perf_counter()
            peak = action()
            found.append((time.perf_counter() - start, peak))
    return [(min(found)[0], max(peak for _, peak in found)) for found in times]


def cfs_store(*arguments: str | Path) -> int:
    program = "from pyinit.host.commands.cfs_store import main; raise SystemExit(main())"
    return run([sys.executable, "-S", "-c", program, *arguments])


def run(command: Sequence[str | Path]) -> int:
    """To its end; the KB that it had in memory at most, or what it ran."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a package that is installed has its bytecode
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss


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
