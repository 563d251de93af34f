# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The UKI: ukify around the kernel and our initrd, then sealed by the product."""

import tempfile
from pathlib import Path

from pyinit.initrd.source import config
from tests.demo.command import product
from tests.vm.initrd import boot_initrd
from tests.vm.toolbox import Kernel, Toolbox

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def build_uki(
    output: Path,
    box: Toolbox,
    kernel: Kernel,
    initrd: bytes,
    command_line: str,
    os_release: Path,
    digest: str,
) -> Path:
    """A UKI at `output` that names `digest` as its root, and not on the command line."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "initrd").write_bytes(initrd)
        box.run(
            "ukify", "build", f"--linux={kernel.vmlinuz}", f"--initrd={work / 'initrd'}",
            f"--cmdline={command_line}", f"--os-release=@{os_release}",
            f"--uname={kernel.version}", f"--stub={box.path(STUB)}", f"--output={work / 'uki'}",
        )  # fmt: skip
        product("cfs-uki", "seal", "--digest", digest, str(work / "uki"), "-o", str(output))
    return output


def demo_initrd(kernel: Kernel, cfs_init: Path) -> bytes:
    """Our initrd, configured to power off at once when it refuses."""
    settings = config.Config()
    settings.failure = "poweroff"
    settings.failure_delay = 0
    return boot_initrd(
        kernel, cfs_init, files={config.PATH.removeprefix("/"): config.format(settings)}
    )
