# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make check-fresh`: the README's two commands on a Debian that was installed a minute ago.

For each suite: a chroot with nothing but git, a clone of what is committed here, no cache. What the
commands need they have to install. Then both once more without a network.

    GUESTS=no             leaves out what boots virtual machines: the demo, and guests of the tests
    SUITES="bookworm"     these suites only
    KEEP=yes              leaves the machine in build/fresh

How to reach the mirrors (of Debian, and of pip) is taken over from this machine.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.demo.root import bootstrap
from tests.vm import suites
from tests.vm.apt import PackageError
from tests.vm.machine import enter, reach_mirrors
from tests.vm.once import BUILD, REPOSITORY

SUITES = (suites.OLDEST, suites.STABLE)
# A bare Debian: what is essential, apt, and what brings the sources.
PACKAGES = ("git",)
PLACE = BUILD / "fresh"
CLONE = "/root/pyinit"
# For one suite, in MiB: what make check and make demo ask for, packages, temporary files.
NEEDED = {"yes": 24_000, "no": 4_000}
# With guests: the budget of all tests and of the demo, on a machine that does other things too.
LIMIT = 6 * 3600

# pip's settings that say where from, and not what. Its cache is none of a fresh machine's.
_PIP = ("index-url", "extra-index-url", "proxy", "cert", "trusted-host", "timeout")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class FreshError(Exception):
    """What is wrong, for the user."""


@dataclass(frozen=True)
class Options:
    """What the environment says."""

    guests: str
    suites: Sequence[str]
    keep: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Options":
        """FreshError: a value that means nothing."""
        guests = environment.get("GUESTS") or "yes"
        if guests not in NEEDED:
            raise FreshError(f"GUESTS is {guests!r}, expected yes or no")
        suites = tuple((environment.get("SUITES") or " ".join(SUITES)).split())
        if unknown := set(suites) - set(SUITES):
            raise FreshError(f"SUITES has {unknown.pop()!r}, expected some of {' '.join(SUITES)}")
        return cls(guests, suites, environment.get("KEEP") == "yes")

    @property
    def commands(self) -> tuple[str, ...]:
        """The README's."""
        return ("./run demo", "./run check") if self.guests == "yes" else ("./run check",)


def say(text: str) -> None:
    """One line of progress."""
    print(f"fresh: {text}", flush=True)


def check_space(needed: int, place: Path, free: int | None = None) -> None:
    """Says what will be used, in MiB; FreshError: there is less."""
    if free is None:
        free = shutil.disk_usage(place).free >> 20
    say(f"{needed} MiB are needed below {place}, {free} MiB are free")
    if free < needed:
        raise FreshError(f"{place}: {free} MiB are free, {needed} MiB are needed: make room")


def pip_settings(listed: str) -> dict[str, str]:
    """Of `pip config list`, as variables for another machine."""
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP:
            found[f"PIP_{key.upper().replace('-', '_')}"] = value.strip("'\"")
    return found


def _environment() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True, text=True, timeout=600, check=True,
    ).stdout  # fmt: skip
    names = [name for proxy in _PROXIES for name in (proxy, proxy.upper())]
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        **pip_settings(listed),
        **{name: os.environ[name] for name in names if name in os.environ},
    }


def _install(tree: Path, suite: str) -> None:
    bootstrap(tree, PACKAGES, suite)
    reach_mirrors(tree)
    subprocess.run(
        ["git", "clone", "-q", "--no-hardlinks", REPOSITORY, tree / CLONE.lstrip("/")],
        check=True, timeout=600,
    )  # fmt: skip


def _run(tree: Path, command: str, options: Options, *, network: bool) -> None:
    environment = _environment()
    binds = {}
    if certificates := environment.get("PIP_CERT"):
        binds[Path(certificates)] = "/root/certificates"
        environment["PIP_CERT"] = "/root/certificates"
    script = f"cd {CLONE} && GUESTS={options.guests} {command}"
    say(f"{script}{'' if network else ', without a network'}")
    started = time.monotonic()
    code = subprocess.run(
        [*([] if network else ["unshare", "--net"]), *enter(tree, script, binds)],
        env=environment, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False,
    ).returncode  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    say(f"{command}: exit {code} after {minutes:.0f} min, {_used(tree)} MiB used so far")
    if code:
        raise FreshError(f"{command}: exit {code}{'' if network else ', without a network'}")


def _used(tree: Path) -> int:
    listed = subprocess.run(
        ["du", "-sxm", tree], capture_output=True, text=True, timeout=600, check=True
    )
    return int(listed.stdout.split()[0])


def check(suite: str, options: Options) -> None:
    """FreshError, PackageError: it did not go as it must."""
    place = PLACE / suite
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        check_space(NEEDED[options.guests], place)
        say(f"{suite}: bootstrapping")
        _install(place / "tree", suite)
        for network in (True, False):
            for command in options.commands:
                _run(place / "tree", command, options, network=network)
    finally:
        if not options.keep:
            shutil.rmtree(place, ignore_errors=True)


def _warn_of_changes() -> None:
    changed = subprocess.run(
        ["git", "-C", REPOSITORY, "status", "--porcelain"],
        capture_output=True, text=True, timeout=600, check=True,
    ).stdout  # fmt: skip
    if changed:
        say("what is not committed is not in the clone")


def main() -> int:
    """The exit code."""
    if os.geteuid() != 0:
        say("FAILED: mmdebstrap and mounts need root")
        return 1
    try:
        options = Options.of(os.environ)
        _warn_of_changes()
        for suite in options.suites:
            check(suite, options)
    except (FreshError, PackageError, subprocess.SubprocessError) as error:
        say(f"FAILED: {error}")
        return 1
    say(f"ok: {' '.join(options.suites)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
