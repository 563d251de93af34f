# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds for guests: one to test in (busybox), one like a product's (no libc, no shell).

Both are uncompressed newc archives, the same bytes for the same input; the kernel takes several
archives one after the other, so files can be added by appending one more.
"""

import lzma
import stat
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from pyinit.host.uki.cpio import Entry, write_cpio
from pyinit.initrd.source import config

from .toolbox import Kernel, Toolbox
from .tools import guest_tools

# What a guest of these tests needs; what is built into a kernel is left out by itself.
GUEST_MODULES = (
    "virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay", "erofs", "loop",
    "crc32c_generic",  # by algorithm, of modules of ext4, btrfs and erofs
)  # fmt: skip
FILE_SYSTEM_MODULES = {
    "ext4": ("ext4",),
    "btrfs": ("btrfs", "blake2b", "xxhash_generic"),
    "vfat": ("vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"),
}
# fs-verity asks the crypto API for them by algorithm, not by module dependency.
HASH_MODULES = ("sha512_generic",)
EFI_MODULES = ("efivarfs",)
TPM_MODULES = ("tpm_tis",)  # built into Debian's kernels for x86-64
BOOT_MODULES = (*GUEST_MODULES, *HASH_MODULES, *EFI_MODULES, *FILE_SYSTEM_MODULES["vfat"])

# In one series a module, in another part of something else that is always there.
_OPTIONAL = frozenset(
    {"sha512_generic", "blake2b", "xxhash_generic", "libcrc32c", "crc32c_generic"}
)

_SUFFIXES = (".xz", ".zst")

CONFIG = config.PATH.lstrip("/")


def configuration(**values: str | int | bool) -> bytes:
    """A compiled configuration."""
    settings = config.Config()
    settings.failure_delay = 0
    for name, value in values.items():
        assert hasattr(settings, name)
        setattr(settings, name, value)
    return config.format(settings)


def file_entry(name: str, content: bytes | str | Path, mode: int = 0o644) -> Entry:
    """A regular file at `name` (no leading slash)."""
    if isinstance(content, Path):
        content = content.read_bytes()
    elif isinstance(content, str):
        content = content.encode()
    return Entry(name, stat.S_IFREG | mode, content)


def link_entry(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def directory_entry(name: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | mode)


def module_entries(kernel: Kernel, names: Iterable[str]) -> list[Entry]:
    """Modules `names` and all they depend on, unpacked, below usr/lib/modules/<release>.

    With them modules.dep, modules.alias and modules.softdep of just these, and modules.builtin.
    KeyError: a module that the kernel neither has nor has built in.
    """
    depends = _dependencies(kernel)
    path_of = {_module_name(path): path for path in depends}
    builtin = {_module_name(line) for line in _lines(kernel, "modules.builtin")}
    wanted: dict[str, None] = {}
    for name in names:
        normal = name.replace("-", "_")
        if normal in path_of:
            path = path_of[normal]
            # modules.dep lists the ones to load first last.
            wanted.update(dict.fromkeys([*reversed(depends[path]), path]))
        elif normal not in builtin and normal not in _OPTIONAL:
            raise KeyError(f"kernel {kernel.version} has no module {name!r}")
    base = f"usr/lib/modules/{kernel.version}"
    loaded = {_module_name(path) for path in wanted}
    dep = "".join(
        f"{_plain(path)}:{''.join(' ' + _plain(other) for other in depends[path])}\n"
        for path in wanted
    )
    alias = "".join(
        f"{line}\n"
        for line in _lines(kernel, "modules.alias")
        if line.startswith("alias ") and line.split()[-1] in loaded
    )
    softdep = "".join(
        f"{line}\n"
        for line in _lines(kernel, "modules.softdep")
        if line.startswith("softdep ") and line.split()[1].replace("-", "_") in loaded
    )
    return [
        *(file_entry(f"{base}/{_plain(path)}", _module(kernel, path)) for path in wanted),
        file_entry(f"{base}/modules.dep", dep),
        file_entry(f"{base}/modules.alias", alias),
        file_entry(f"{base}/modules.softdep", softdep),
        file_entry(f"{base}/modules.builtin", (kernel.modules_dir / "modules.builtin")),
    ]


def guest_initrd(
    toolbox: Toolbox,
    kernel: Kernel,
    init: str,
    *,
    modules: Iterable[str] = GUEST_MODULES,
    files: Mapping[str, bytes | str | Path] | None = None,
) -> bytes:
    """busybox, the guest tools, modules, and `init`, a script for busybox sh, as /init.

    `files` (name to content, mode 0755) come with it, for instance {"usr/bin/cfs-mount": path}.
    """
    entries = [
        *(directory_entry(name) for name in ("dev", "proc", "sys", "run", "tmp", "disk", "mnt")),
        link_entry("bin", "usr/bin"),
        link_entry("sbin", "usr/bin"),
        link_entry("lib", "usr/lib"),
        file_entry("init", init, 0o755),
        file_entry("usr/bin/busybox", toolbox.guest_path("usr/bin/busybox"), 0o755),
        *(file_entry(f"usr/bin/{name}", path, 0o755) for name, path in guest_tools().items()),
        *(file_entry(name, content, 0o755) for name, content in (files or {}).items()),
        *module_entries(kernel, modules),
    ]
    return write_cpio(entries)


def boot_initrd(
    kernel: Kernel,
    cfs_init: Path,
    *,
    modules: Iterable[str] = BOOT_MODULES,
    files: Mapping[str, bytes | str | Path] | None = None,
) -> bytes:
    """cfs-init as /init, modules, and `files` (configuration, digests; mode 0644): no more."""
    return write_cpio(
        [
            *(directory_entry(name) for name in ("dev", "proc", "sys", "run", "sysroot")),
            file_entry("init", cfs_init, 0o755),
            *(file_entry(name, content) for name, content in (files or {}).items()),
            *module_entries(kernel, modules),
        ]
    )


def _lines(kernel: Kernel, name: str) -> list[str]:
    return (kernel.modules_dir / name).read_text().splitlines()


@cache
def _dependencies(kernel: Kernel) -> dict[str, list[str]]:
    found = {}
    for line in _lines(kernel, "modules.dep"):
        path, _, rest = line.partition(":")
        found[path] = rest.split()
    return found


def _plain(path: str) -> str:
    for suffix in _SUFFIXES:
        path = path.removesuffix(suffix)
    return path


def _module_name(path: str) -> str:
    return Path(_plain(path)).name.removesuffix(".ko").replace("-", "_")


@cache
def _module(kernel: Kernel, path: str) -> bytes:
    file = kernel.modules_dir / path
    if path.endswith(".xz"):
        return lzma.decompress(file.read_bytes())
    if path.endswith(".zst"):
        return subprocess.run(
            [*Toolbox().command("zstd"), "-dc", str(file)],
            capture_output=True,
            timeout=600,
            check=True,
        ).stdout
    return file.read_bytes()
