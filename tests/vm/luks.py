# SPDX-License-Identifier: Apache-2.0 OR MIT
"""LUKS volumes whose key a TPM gives out: systemd's programs, for this machine and for guests.

Debian's own, with the libraries that they load and nothing else. systemd-cryptenroll talks to the
TPM (swtpm) here, so that no guest has to boot for it. Needs root.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from . import dracut, suites
from .disks import MIB, sparse_file
from .once import BUILD, STAMP, made_once
from .toolbox import Toolbox
from .watch import dies_with_us

# 0.6 MB, beside what the tree of dracut has.
PACKAGES = (
    "systemd-cryptsetup", "libtss2-esys-3.0.2-0t64", "libtss2-mu-4.0.1-0t64", "libtss2-rc0t64",
    "libtss2-sys1t64", "libtss2-tcti-device0t64", "libtss2-tcti-swtpm0t64",
)  # fmt: skip
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd")
_PROGRAMS = (
    "usr/bin/systemd-cryptenroll", "usr/bin/systemd-cryptsetup", "usr/sbin/cryptsetup",
    "usr/lib/systemd/systemd-pcrextend",
)  # fmt: skip
# What they open by name when they need it.
_OPENED = (
    "libcryptsetup.so.12", "libtss2-esys.so.0", "libtss2-mu.so.0", "libtss2-rc.so.0",
    "libtss2-tcti-device.so.0", "libtss2-tcti-swtpm.so.0",
    "cryptsetup/libcryptsetup-token-systemd-tpm2.so",
)  # fmt: skip
_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "etc", "var")
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
MODULES = ("dm_crypt", "xts", "aes_generic")
"""What a guest needs for such a volume."""

PASSPHRASE = "of the one who installs"
_SIZE = 20 * MIB
_ENROLL = """
set -e
tree=$1
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount -t tmpfs tmpfs "$tree/run"
mount --bind "$2" "$tree/tmp"
chroot "$tree" /usr/sbin/cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 \\
    --pbkdf-force-iterations 1000 --key-file /tmp/passphrase /tmp/volume
chroot "$tree" /usr/bin/systemd-cryptenroll --unlock-key-file=/tmp/passphrase \\
    --tpm2-device=swtpm:path=/tmp/tpm --tpm2-pcrs="$3" /tmp/volume
"""


@dataclass(frozen=True)
class Programs:
    """`tree`: to be entered by chroot. `image`: the same, for a guest (EROFS)."""

    tree: Path
    image: Path


def programs(toolbox: Toolbox) -> Programs:
    """Fetch and collect them, once."""
    base = dracut.machine(dracut.STABLE)

    def make(directory: Path) -> None:
        new = directory / "packages"
        for name in ("bin", "sbin", "lib", "lib64"):
            (new / "usr" / name).mkdir(parents=True)
            (new / name).symlink_to(f"usr/{name}")
        toolbox.fetch(suites.STABLE, PACKAGES, new)
        tree = directory / "tree"
        for name in _DIRECTORIES:
            (tree / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (tree / name).symlink_to(f"usr/{name}")
        opened = [f"{_LIBRARIES[0]}/{name}" for name in _OPENED]
        for path in _needed([new, base], [*_PROGRAMS, *opened, _LOADER]):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_in([new, base], path), tree / path)
        toolbox.run("mkfs.erofs", "--quiet", directory / "image", tree)
        shutil.rmtree(new)

    key = repr((PACKAGES, Path(__file__).read_text(), (base.parent / STAMP).read_text()))
    made = made_once(BUILD / "vm-cache" / "luks", key, make)
    return Programs(made / "tree", made / "image")


def _in(trees: Iterable[Path], path: str) -> Path:
    """In the first tree that has it. FileNotFoundError."""
    for tree in trees:
        if (tree / path).exists():
            return (tree / path).resolve(strict=True)
    raise FileNotFoundError(path)


def _needed(trees: Iterable[Path], paths: Iterable[str]) -> Iterator[str]:
    """These, and the libraries that they are linked with."""
    left, seen = list(paths), set()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        with _in(trees, path).open("rb") as file:
            dynamic = ELFFile(file).get_section_by_name(".dynamic")
            names = [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")] if dynamic else []
        for name in names:
            left.append(_LOADER if name == Path(_LOADER).name else _library(trees, name))


def _library(trees: Iterable[Path], name: str) -> str:
    for place in _LIBRARIES:
        if any((tree / place / name).exists() for tree in trees):
            return f"{place}/{name}"
    raise FileNotFoundError(name)


def volume(toolbox: Toolbox, found: Programs, state: Path, pcrs: str, directory: Path) -> Path:
    """A volume of LUKS that the TPM opens with these PCRs, as systemd-cryptenroll takes them.
    `state`: of the TPM, which is used while no guest has it."""
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="luks-") as name:
        work = Path(name)
        sparse_file(work / "volume", _SIZE)
        fd = os.open(work / "passphrase", os.O_WRONLY | os.O_CREAT, 0o600)
        with open(fd, "w") as file:
            file.write(PASSPHRASE)
        command = [
            *dies_with_us(), *toolbox.command("swtpm"), "socket", "--tpm2",
            "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={work / 'tpm'}",
            "--ctrl", f"type=unixio,path={work / 'tpm.ctrl'}", "--flags", "startup-clear",
        ]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tpm:
            try:
                done = subprocess.run(
                    ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                     f"until [ -e '{work}/tpm.ctrl' ]; do sleep 0.1; done\n{_ENROLL}",
                     "sh", found.tree, work, pcrs],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    timeout=600, check=False,
                )  # fmt: skip
            finally:
                tpm.kill()
        if done.returncode:
            raise RuntimeError(done.stdout.decode(errors="replace")[-2000:])
        return Path(shutil.copyfile(work / "volume", directory / "volume"))
