# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a guest is: its processor, and what has another name on another one.

CFS_TARGET in the environment names it, as the Makefile does for `make check-arm64`; else guests are
x86-64 machines, whose programs are the host's own. Programs of another target's guests come from
Debian's packages for it, or from the compiler for it. What is made for it lies below build/<gnu>.
"""

import os
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Names that differ."""

    debian: str
    """Of Debian's packages."""
    gnu: str
    """Of the compiler and of directories of libraries; as in uname(2)."""
    kernel: str
    """The package that leads to the kernel."""
    command_line: str
    """What the kernel is told of its machine."""
    root_type: str
    """Of its root partition (Discoverable Partitions Specification)."""
    stub: str
    """systemd's, for a UKI."""
    boot_file: str
    """What firmware starts by itself."""
    sha256: str
    """The kernel's module with the processor's own SHA-256."""
    qemu: str
    machine: str
    cpu: str
    tpm: str
    """QEMU's names."""
    tools: tuple[str, ...]
    """Packages of the host: QEMU and firmware."""
    firmware: str
    """Where it is: {kind} is CODE or VARS, {secure} what marks Secure Boot, see `secure`."""
    secure: tuple[str, str]
    """That of CODE and of VARS."""
    secure_arguments: tuple[str, ...]
    """What QEMU has to be told for Secure Boot."""
    keys: str
    """Where the key is that this firmware trusts."""
    with_tpm: str = ""
    """What marks the CODE that knows of a TPM, without Secure Boot."""
    pages: str = ""
    """ "16k" where they have another size; tells apart what is made for the same processor."""

    @property
    def native(self) -> bool:
        """Whether the host's programs run in its guests."""
        return self is X86_64


X86_64 = Target(
    debian="amd64",
    gnu="x86_64",
    kernel="linux-image-cloud-amd64",
    # Beside other load the timer that the kernel tries out may be late under emulation: it would
    # panic.
    command_line="console=ttyS0 panic=-1 no_timer_check",
    root_type="4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    stub="linuxx64.efi.stub",
    boot_file="BOOTX64.EFI",
    sha256="sha256_ssse3",
    qemu="qemu-system-x86_64",
    machine="q35",
    cpu="max",
    tpm="tpm-tis",
    tools=("ovmf", "qemu-system-x86"),
    firmware="usr/share/OVMF/OVMF_{kind}_4M{secure}.fd",
    secure=(".secboot", ".snakeoil"),
    secure_arguments=(
        *("-machine", "smm=on"),
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
    ),
    keys="usr/share/ovmf",
)
AARCH64 = Target(
    debian="arm64",
    gnu="aarch64",
    kernel="linux-image-cloud-arm64",
    command_line="console=ttyAMA0 panic=-1",
    root_type="b921b045-1df0-41c3-af44-4c6f280d3fae",
    stub="linuxaa64.efi.stub",
    boot_file="BOOTAA64.EFI",
    sha256="sha2_ce",
    qemu="qemu-system-aarch64",
    machine="virt",
    # Pointer authentication by a cheap hash: emulating the processor's own takes half the time.
    cpu="max,pauth-impdef=on",
    tpm="tpm-tis-device",
    tools=("qemu-efi-aarch64", "qemu-system-arm"),
    firmware="usr/share/AAVMF/AAVMF_{kind}{secure}.fd",
    secure=(".secboot", ".snakeoil"),
    secure_arguments=(),
    keys="usr/share/qemu-efi-aarch64",
    with_tpm=".secboot",
)
# The kernel for clouds has 4 KiB alone.
AARCH64_16K = Target(**{**vars(AARCH64), "kernel": "linux-image-arm64-16k", "pages": "16k"})
_ALL = {"x86_64": X86_64, "aarch64": AARCH64, "aarch64-16k": AARCH64_16K}


def chosen(name: str) -> Target:
    """The one of that name. ValueError: there is none."""
    if name not in _ALL:
        raise ValueError(f"CFS_TARGET is {name!r}, expected one of {', '.join(_ALL)}")
    return _ALL[name]


TARGET = chosen(os.environ.get("CFS_TARGET", "x86_64"))


def compiler() -> str:
    """The C compiler for guests. FileNotFoundError: it is not installed."""
    name = "gcc" if TARGET.native else f"{TARGET.gnu}-linux-gnu-gcc"
    if shutil.which(name) is None:
        raise FileNotFoundError(f"{name}: make check-arm64 installs it")
    return name
