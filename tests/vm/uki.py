# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Unified kernel images by ukify, on disks that UEFI firmware boots."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .disks import esp, gpt
from .target import TARGET
from .toolbox import Kernel, Toolbox

STUBS = "usr/lib/systemd/boot/efi"
ADDON_STUB = TARGET.stub.replace("linux", "addon")
"""Of an add-on: a program that does nothing but end."""
BOOT_PATH = f"EFI/BOOT/{TARGET.boot_file}"


def build_uki(
    toolbox: Toolbox,
    kernel: Kernel,
    output: Path,
    *,
    initrd: bytes,
    cmdline: str,
    sections: Mapping[str, Path] | None = None,
    more_initrds: tuple[Path, ...] = (),
    stub: Path | None = None,
) -> Path:
    """A UKI with this stub, or that of the toolbox; `sections` (".cfsdig" to file) as ukify's
    --section."""
    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "initrd"
        first.write_bytes(initrd)
        arguments = [f"--initrd={path}" for path in (first, *more_initrds)]
        arguments += [f"--section={section}:@{path}" for section, path in (sections or {}).items()]
        toolbox.run(
            "ukify",
            "build",
            f"--linux={kernel.vmlinuz}",
            f"--uname={kernel.version}",
            f"--stub={stub or toolbox.guest_path(STUBS) / TARGET.stub}",
            f"--cmdline={cmdline}",
            "--os-release=ID=test\n",
            *arguments,
            f"--output={output}",
        )
    return output


def build_addon(
    toolbox: Toolbox,
    output: Path,
    *,
    cmdline: str,
    sections: Mapping[str, Path] | None = None,
    stub: Path | None = None,
) -> Path:
    """An add-on of a UKI with that command line; the others as of `build_uki`."""
    toolbox.run(
        "ukify",
        "build",
        f"--stub={stub or toolbox.guest_path(STUBS) / ADDON_STUB}",
        f"--cmdline={cmdline}",
        *(f"--section={section}:@{path}" for section, path in (sections or {}).items()),
        f"--output={output}",
    )
    return output


def boot_disk(
    toolbox: Toolbox,
    path: Path,
    uki: Path,
    root_image: Path,
    *,
    esp_partuuid: str,
    root_partuuid: str,
    files: Mapping[str, Path] | None = None,
    more: Sequence[tuple[str, str, Path]] = (),
) -> dict[str, int]:
    """A GPT disk whose ESP has `uki` as default boot file and `files`; `more` partitions; offsets
    as `gpt`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        image = esp(toolbox, Path(name) / "esp", {BOOT_PATH: uki, **(files or {})})
        return gpt(
            toolbox,
            path,
            esp_image=image,
            root_image=root_image,
            esp_partuuid=esp_partuuid,
            root_partuuid=root_partuuid,
            more=more,
        )
