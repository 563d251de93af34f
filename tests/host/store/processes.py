# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-store as processes beside each other, one of them held at a system call; and beside mounts
and records that are there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyinit.host.store import mounts
from tests.vm.once import REPOSITORY

SECONDS = 600
_CODE = "import sys; from pyinit.host.commands.cfs_store import main; sys.exit(main(sys.argv[1:]))"
_WAITS = b"waiting for its lock"


def cfs_store(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-B", "-S", "-c", _CODE, *map(str, arguments)]


def collect(store: Path, *options: str) -> list[str]:
    """Whatever else is mounted on this machine."""
    others = {found.mount.target for found in mounts.overlays()}
    excepted = [word for target in sorted(others) for word in ("--except", target)]
    return cfs_store("gc", "--no-uki", *options, *excepted, store)


class Process:
    """A program that runs. `fds` are open in it."""

    def __init__(self, command: Sequence[str], fds: Sequence[int] = ()) -> None:
        paths = [str(REPOSITORY), str(REPOSITORY / "build" / "lib")]
        self._process = subprocess.Popen(
            command,
            env={"PYTHONPATH": os.pathsep.join(paths), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds,
        )  # fmt: skip
        self.pid = self._process.pid

    def waits(self) -> bool:
        """Once it waits for the lock, True; False when it has ended without."""
        assert self._process.stderr
        return any(_WAITS in line for line in self._process.stderr)

    def says(self, line: bytes) -> bool:
        """Is this the line that comes next?"""
        assert self._process.stdout
        return self._process.stdout.readline() == line + b"\n"

    def end(self) -> int:
        """Its exit code."""
        _, said = self._process.communicate(timeout=SECONDS)
        sys.stderr.buffer.write(said)  # where a test fails
        return self._process.returncode


class Held(Process):
    """One that is held before its system call of that number, see kill_at.c.

    `within`: what runs it, as unshare(1) does.
    """

    def __init__(
        self, killer: Path, number: int, command: Sequence[str], within: Sequence[str] = ()
    ) -> None:
        self._seen, seen = os.pipe()
        goes, self._goes = os.pipe()
        try:
            super().__init__(
                [*within, str(killer), f"{number}:{seen}:{goes}", *command], (seen, goes)
            )
        finally:
            os.close(seen)
            os.close(goes)

    def is_held(self) -> bool:
        """Once it is held, True; False when it has ended before."""
        return os.read(self._seen, 1) != b""

    def end(self) -> int:
        """It goes on."""
        os.close(self._goes)
        os.close(self._seen)
        return super().end()


def apart(script: str) -> list[str]:
    """Runs a shell's script with mounts of its own."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", *users, "sh", "-e", "-c", script, "sh"]


def can_mount() -> bool:
    done = subprocess.run(apart("mount -t tmpfs tmpfs /run"), check=False, capture_output=True)
    return done.returncode == 0


@contextmanager
def mounted(digest: str, place: Path) -> Iterator[None]:
    """A process has an overlay that says this image, in a mount namespace of its own."""
    script = (
        'cd "$2"; mkdir -p a b point; mount -t overlay "composefs:$1" -o ro,lowerdir=a:b point\n'
        "echo mounted; read -r line"
    )
    place.mkdir(exist_ok=True)
    process = Process([*apart(script), digest, str(place)])
    try:
        assert process.says(b"mounted")
        yield
    finally:
        process.end()
