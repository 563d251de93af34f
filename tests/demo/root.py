# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A root tree: Debian packages, and what a read-only root with an empty /var needs besides."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.vm import suites
from tests.vm.apt import keyring, machine_acquire_settings, machine_mirror
from tests.vm.once import made_once

SUITE = suites.STABLE

# What a person expects to find after logging in, and systemd to bring it up.
USER_PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod",
    "bash", "coreutils", "findutils", "util-linux", "less", "vim-tiny", "nano", "file",
    "iproute2", "procps", "openssh-client", "python3-minimal", "python3",
)  # fmt: skip

# Units without a place here: consoles are for a person, and the rest maintains a /var and a
# package database that live until power-off.
MASKED = (
    "getty.target", "serial-getty@.service", "systemd-firstboot.service",
    "systemd-networkd-wait-online.service", "apt-daily.timer", "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer", "fstrim.timer",
)  # fmt: skip

_LIMIT_SECONDS = 3600


def build_root(
    destination: Path,
    packages: Sequence[str] = USER_PACKAGES,
    *,
    suite: str = SUITE,
    masked: Sequence[str] = MASKED,
    files: dict[str, tuple[int, str]] | None = None,
    enabled: Sequence[str] = (),
    modules: Path | None = None,
    finish: str = "",
    key: str = "",
) -> Path:
    """The directory `destination` with `packages`, ready to become an image; made once.

    `files` are added last: path below the root to (mode, text). Units of `enabled` are started
    with multi-user.target, those of `masked` never. `modules` is the /usr/lib/modules of the
    kernel that will boot it, `key` names it. `finish` is run in the tree, by its sh. Needs root.
    """
    added = files or {}
    lists = [list(packages), list(masked), list(enabled), sorted(added.items())]
    whole_key = repr((_VERSION, suite, lists, key, *([finish] if finish else [])))

    def make(directory: Path) -> None:
        root = directory / "root"
        bootstrap(root, packages, suite)
        _adapt(root, masked)
        if modules is not None:
            shutil.copytree(modules, root / "usr/lib/modules", symlinks=True)
        for name, (mode, text) in added.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
        wants = root / "usr/lib/systemd/system/multi-user.target.wants"
        for unit in enabled:
            (wants / unit).symlink_to(f"../{unit}")
        if finish:
            _run(["chroot", str(root), "sh", "-e", "-c", finish])

    return made_once(destination, whole_key, make) / "root"


# Counted up when the code below changes what it makes.
_VERSION = 1


def bootstrap(root: Path, packages: Sequence[str], suite: str) -> None:
    """A Debian tree at `root`, whose parent directory must be there. Needs root."""
    settings = root.with_name("apt.conf")
    settings.write_text(f'{machine_acquire_settings()}Acquire::Languages "none";\n')
    _run([
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
        f"--include={','.join(packages)}", f"--aptopt={settings}",
        suite, str(root), f"deb [signed-by={keyring()}] {machine_mirror()} {suite} main",
    ])  # fmt: skip
    # How this machine reaches the mirror is no business of the image.
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink()


def _adapt(root: Path, masked: Sequence[str]) -> None:
    # Empty: systemd makes an id for this boot, and does not take it for the first one, which
    # would run the presets of every unit.
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("composefs\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    # Mount points: the disk is shown at /sysroot, the ESP belongs to /boot.
    for name in ("sysroot", "boot"):
        (root / name).mkdir(exist_ok=True)
    # The package database belongs to the image, not to the /var of one machine.
    shutil.move(root / "var/lib/dpkg", root / "usr/lib/dpkg-database")
    empty(root / "var")
    for name in ("run", "tmp", "dev", "proc", "sys"):
        empty(root / name)
    (root / "usr/lib/tmpfiles.d/00-composefs-var.conf").write_text(
        "# /var starts empty on each boot\n"
        "d /var/lib 0755 root root -\n"
        "L /var/lib/dpkg - - - - /usr/lib/dpkg-database\n"
        "L /var/run - - - - /run\n"
        "L /var/lock - - - - /run/lock\n"
    )
    units = root / "etc/systemd/system"
    for unit in masked:
        link = units / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def empty(directory: Path) -> None:
    """Remove what is in `directory`, following nothing."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=_LIMIT_SECONDS, check=False, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"{command[0]}: exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
