# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A real UKI (systemd's stub and ukify, a real kernel), and a key to sign it with."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.host.uki.cpio import Entry, write_cpio
from tests.vm.toolbox import Kernel, Toolbox


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt. A shell starts what runs in the background with it ignored,
    and Python leaves that so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class UkiParts:
    """What UKIs are made of."""

    toolbox: Toolbox
    kernel: Kernel
    stub: Path
    initrd: Path
    directory: Path

    def ukify(self, output: Path, *options: str) -> Path:
        subprocess.run(
            [
                *self.toolbox.script("ukify"),
                "build",
                f"--linux={self.kernel.vmlinuz}",
                f"--initrd={self.initrd}",
                "--cmdline=console=ttyS0 quiet",
                "--os-release=ID=test\n",
                f"--uname={self.kernel.version}",
                f"--stub={self.stub}",
                *options,
                f"--output={output}",
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )
        return output


@pytest.fixture(scope="session")
def uki_parts(tmp_path_factory: pytest.TempPathFactory) -> UkiParts:
    toolbox = Toolbox()
    directory = tmp_path_factory.mktemp("uki")
    plain, initrd = directory / "initrd", directory / "initrd.zst"
    plain.write_bytes(write_cpio([Entry("init", 0o100755, b"#!/bin/sh\n" + b"x" * 5000)]))
    toolbox.run("zstd", "-q", plain, "-o", initrd)
    stub = toolbox.path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
    return UkiParts(toolbox, toolbox.kernel("stable"), stub, initrd, directory)


@pytest.fixture(scope="session")
def plain_uki(uki_parts: UkiParts) -> Path:
    """As ukify writes it: nobody changes this file."""
    return uki_parts.ukify(uki_parts.directory / "plain.efi")


@dataclass(frozen=True)
class Signer:
    toolbox: Toolbox
    key: Path
    certificate: Path

    def sign(self, source: Path, target: Path) -> Path:
        self.toolbox.run(
            "sbsign", "--key", self.key, "--cert", self.certificate, "--output", target, source
        )
        return target

    def verify(self, path: Path) -> str:
        return self.toolbox.run("sbverify", "--cert", self.certificate, path)


@pytest.fixture(scope="session")
def signer(uki_parts: UkiParts) -> Signer:
    key, certificate = uki_parts.directory / "key", uki_parts.directory / "certificate"
    uki_parts.toolbox.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test",
        "-config", uki_parts.toolbox.path("usr/lib/ssl/openssl.cnf"),
        "-keyout", key, "-out", certificate,
    )  # fmt: skip
    return Signer(uki_parts.toolbox, key, certificate)
