# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Tools and kernels of known suites, the same on every Debian that runs the tests.

Debian packages are unpacked below build/toolbox/ and run there through their own dynamic loader:
nothing is installed, no chroot, no root rights. (QEMU 7.2 of Debian 12 corrupts guests under TCG,
its systemd stub 252 lacks sections that are needed: hence not the machine's own.)
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import kernels, suites
from .apt import PackageError, Suite, say
from .once import BUILD, locked, made_once
from .suites import Offered, first_with
from .target import TARGET, X86_64

TOOLS = (
    "btrfs-progs",
    "busybox-static",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "fsverity",
    "gdisk",
    "kmod",
    "mtools",
    *TARGET.tools,
    "qemu-utils",
    "sbsigntool",
    "swtpm",
    "swtpm-tools",
    "systemd-boot-efi",
    "systemd-ukify",
    "xz-utils",
    "zstd",
)
# What guests of another machine than the host run, of its packages.
_STUBS = "systemd-boot-efi"
GUEST_TOOLS = ("btrfs-progs", "busybox-static", "mount", "strace", _STUBS, "util-linux")
# Programs that ours are compared with, in tests and benches alone. Their package is in none but
# later suites; its other dependency, glibc, was new enough in the stable one in November 2026.
PEERS = ("composefs-info", "mkcomposefs", "mount.composefs")
PEERS_PACKAGES = ("composefs", "libcomposefs1")

_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_BINARIES = ("usr/bin", "usr/sbin")
# Files that programs look for by absolute path, and how to tell them otherwise.
_ARGUMENTS = {
    TARGET.qemu: '-L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios"',
}
_ENVIRONMENT = {
    "mke2fs": 'MKE2FS_CONFIG="$tree/etc/mke2fs.conf"',
    "mkfs.ext4": 'MKE2FS_CONFIG="$tree/etc/mke2fs.conf"',
}
# Pure Python that scripts of the toolbox import; the rest of dist-packages is for one Python only.
_PYTHON_MODULES = ("pefile.py", "ordlookup")

# Counts up when this file unpacks the same packages in another way.
_FORMAT = 2

# What this process could not get, and why.
_MISSING: dict[Path, str] = {}


@dataclass(frozen=True)
class Kernel:
    """An unpacked Debian kernel."""

    version: str
    """Its release, as `uname -r` prints it."""
    vmlinuz: Path
    modules_dir: Path
    """.../usr/lib/modules/<version>, with modules.dep and modules.alias."""

    @property
    def series(self) -> str:
        """ "7.3"."""
        return kernels.series(self.version)

    @property
    def seen(self) -> bool:
        """Whether its series is one on which the tests held before."""
        return kernels.seen(self.version)


class Toolbox:
    """The tools and kernels below `root`, fetched at first use."""

    def __init__(self, root: Path = BUILD / "toolbox") -> None:
        self._root = root
        self._tools: Path | None = None
        self._suites: dict[str, Suite] = {}

    @property
    def tree(self) -> Path:
        """The unpacked tools: a Debian file tree."""
        if self._tools is None:
            names = (suites.STABLE, *TOOLS)
            self._tools = self._made("tools", f"{_FORMAT} {' '.join(names)}", self._make_tools)
        return self._tools

    @property
    def peers(self) -> Path:
        """The unpacked peers, which run with the libraries of `tree`. Who asks for none of them
        needs no later suite."""
        _ = self.tree  # before this thread holds the peers' lock
        # Where else they were looked for changes nothing once they are there.
        names = (suites.LATER[0], *PEERS_PACKAGES)
        return self._made("peers", f"{_FORMAT} {' '.join(names)}", self._make_peers)

    @property
    def bin(self) -> Path:
        """A directory for PATH: a wrapper for each program of the toolbox, and no peer."""
        return self.tree / "run"

    def command(self, name: str) -> list[str]:
        """The start of an argument list that runs program `name` of the toolbox, or a peer."""
        tree = self.peers if name in PEERS else self.tree
        wrapper = tree / "run" / name
        if not wrapper.exists():
            raise FileNotFoundError(f"no program {name!r} in the toolbox ({tree})")
        return [str(wrapper)]

    def script(self, name: str) -> list[str]:
        """Like `command`, for a program written in Python: it runs under /usr/bin/python3."""
        return self.command(name)

    def path(self, name: str) -> Path:
        """File `name` ("usr/share/OVMF/...") of the toolbox."""
        path = self.tree / name
        if not path.exists():
            raise FileNotFoundError(f"no {name!r} in the toolbox ({self.tree})")
        return path

    @property
    def guest_tree(self) -> Path:
        """Like `tree`, of programs for guests."""
        if TARGET.native:
            return self.tree
        key = f"{_FORMAT} {suites.STABLE} {' '.join(GUEST_TOOLS)}"
        return self._made("guest-tools", key, self._make_guest_tools)

    def guest_path(self, name: str) -> Path:
        """Like `path`, of what is for guests."""
        path = self.guest_tree / name
        if not path.exists():
            raise FileNotFoundError(f"no {name!r} for guests ({self.guest_tree})")
        return path

    @property
    def newest_stubs(self) -> Path:
        """Where systemd-stub is for guests, and its add-ons' stub: of the newest suite."""
        key = f"{_FORMAT} {_STUBS} {suites.LATER[-1]}"
        return (
            self._made(f"newest-stubs-{TARGET.debian}", key, self._make_stubs)
            / "usr/lib/systemd/boot/efi"
        )

    def run(self, *arguments: str | os.PathLike[str], limit: float = 1800) -> str:
        """Run a program of the toolbox to its end; its stdout. Fails with its stderr."""
        name, *rest = [os.fspath(argument) for argument in arguments]
        done = subprocess.run(
            [*self.command(name), *rest],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"{name} {shlex.join(rest)}: exit {done.returncode}: "
                f"{(done.stderr + done.stdout).decode(errors='replace')[-2000:]}"
            )
        return done.stdout.decode(errors="replace")

    def fetch(self, suite: str, packages: Iterable[str], tree: Path) -> None:
        """Unpack these, and nothing that they depend on, into `tree`."""
        with self._suite(suite) as found:
            found.unpack(packages, tree, dependencies=False)

    def kernel(self, role: str) -> Kernel:
        """The kernel that plays `role`, one of kernels.ROLES."""
        role = kernels.PLAYED.get(role, role)
        _ = self.tree  # depmod, before this thread holds a kernel's lock
        key = f"{_FORMAT} {kernels.META} {' '.join(kernels.SUITES[role])}"
        name = "-".join(("kernel", *TARGET.pages.split(), role))
        directory = self._made(name, key, lambda tree: self._make_kernel(role, tree))
        [modules] = (directory / "usr/lib/modules").iterdir()
        version = modules.name
        for vmlinuz in (directory / "boot" / f"vmlinuz-{version}", modules / "vmlinuz"):
            if vmlinuz.exists():
                return Kernel(version, vmlinuz, modules)
        raise PackageError(f"no vmlinuz in {directory}")

    def offered(self, package: str, architecture: str = X86_64.debian) -> Offered:
        """The version of `package` that a suite has today, None: it has none."""

        def version(suite_name: str) -> str | None:
            with self._suite(suite_name, architecture) as suite:
                return suite.version(package)

        return version

    def _made(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """What a mirror did not have is not asked for again by this process."""
        place = self._root / name
        if place in _MISSING:
            raise PackageError(_MISSING[place])
        try:
            return made_once(place, key, make)
        except PackageError as error:
            _MISSING[place] = str(error)
            raise

    @contextmanager
    def _suite(self, name: str, architecture: str = X86_64.debian) -> Iterator[Suite]:
        place = name if architecture == X86_64.debian else f"{name}-{architecture}"
        with locked(self._root / "apt" / f".{place}.lock"):
            known = Suite(name, self._root / "apt" / place, architecture)
            yield self._suites.setdefault(place, known)

    def _make_tools(self, tree: Path) -> None:
        _merge_usr(tree)
        try:
            with self._suite(suites.STABLE) as suite:
                suite.unpack(TOOLS, tree, dependencies=True)
        except PackageError as error:
            raise PackageError(f"tools: {error}; lint can be run, and what uses none") from error
        for name in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(tree / name, ignore_errors=True)
        _write_wrappers(tree)

    def _make_peers(self, tree: Path) -> None:
        _merge_usr(tree)
        package = PEERS_PACKAGES[0]
        try:
            choice = first_with(package, suites.LATER, self.offered(package))
            say(f"{package}: {choice.version} of {choice.suite}")
            with self._suite(choice.suite) as suite:
                suite.unpack(PEERS_PACKAGES, tree, dependencies=False)
        except PackageError as error:
            raise PackageError(
                f"peers: {error}; what needs no {', '.join(PEERS[:-1])} or {PEERS[-1]} can be run"
            ) from error
        _write_wrappers(tree, '$(dirname "$tree")/tools')

    def _make_guest_tools(self, tree: Path) -> None:
        _merge_usr(tree)
        with self._suite(suites.STABLE, TARGET.debian) as suite:
            suite.unpack(GUEST_TOOLS, tree, dependencies=True)

    def _make_stubs(self, tree: Path) -> None:
        with self._suite(suites.LATER[-1], TARGET.debian) as suite:
            suite.unpack([_STUBS], tree, dependencies=False)

    def _make_kernel(self, role: str, tree: Path) -> None:
        _merge_usr(tree)
        choice = kernels.choose(role, self.offered(kernels.META, TARGET.debian))
        kernels.announce(role, choice)
        with self._suite(choice.suite, TARGET.debian) as suite:
            suite.unpack(kernels.packages(suite.depends), tree, dependencies=False)
        [modules] = (tree / "usr/lib/modules").iterdir()
        say(f"depmod for {modules.name}")
        self.run("depmod", "-b", tree, modules.name)


def _merge_usr(tree: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")


def _write_wrappers(tree: Path, base: str = "$tree") -> None:
    """run/NAME for each program: the tree may be renamed, so they find it by their own place.
    `base`: where loader and libraries are that are not in the tree."""
    run = tree / "run"
    run.mkdir()
    python = run / "python"
    python.mkdir()
    for module in _PYTHON_MODULES:
        source = Path("usr/lib/python3/dist-packages") / module
        (python / module).symlink_to(Path("../..") / source)
    places = (f"$base/{_LIBRARIES}{below}" for below in ("", "/swtpm", "/systemd"))
    libraries = f'"$tree/{_LIBRARIES}:{":".join(places)}"'
    for directory in _BINARIES:
        for program in sorted((tree / directory).iterdir()):
            name = program.name
            try:
                start = program.read_bytes()[:64]
            except OSError:  # a dangling symlink, e.g. into /etc/alternatives
                continue
            if start.startswith(b"\x7fELF"):
                execute = f'exec "$base/{_LOADER}" --library-path {libraries}'
            elif start.startswith(b"#!") and b"python" in start.split(b"\n")[0]:
                execute = 'exec env PYTHONPATH="$tree/run/python" /usr/bin/python3'
            else:
                continue
            wrapper = run / name
            environment = _ENVIRONMENT.get(name)
            wrapper.write_text(
                "#!/bin/sh\n"
                'tree=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
                f"base={base}\n"
                + (f"export {environment}\n" if environment else "")
                + f'{execute} "$tree/{directory}/{name}" {_ARGUMENTS.get(name, "")} "$@"\n'
            )
            wrapper.chmod(0o755)


def main(arguments: list[str]) -> int:
    """`-m tests.vm.toolbox`: fetch everything; with arguments: run a program of the toolbox."""
    box = Toolbox()
    try:
        tree = box.tree
        command = box.command(arguments[0]) if arguments else []
    except PackageError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments:
        os.execv(command[0], [*command, *arguments[1:]])
    print(tree)
    missing = 0
    try:
        print(box.peers)
    except PackageError as error:
        print(error, file=sys.stderr)
        missing += 1
    for role in kernels.ROLES:
        try:
            kernel = box.kernel(role)
        except PackageError as error:
            print(error, file=sys.stderr)
            missing += 1
        else:
            print(f"{role} ({kernel.series}): {kernel.vmlinuz}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
