# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The C library in the executable, and where it is missing."""

import subprocess
from pathlib import Path

import pytest

from pyinit.host.frozen import libc

PROGRAM = """
#include <linux/loop.h>
#include <linux/mount.h>
int main(void) { return MOUNT_ATTR_RDONLY != 1 || LOOP_SET_FD != 0x4C00; }
"""


def test_its_compiler_finds_the_headers_of_the_kernel(tmp_path: Path) -> None:
    found = libc.musl(tmp_path)
    program = tmp_path / "program"
    command = [*found.compiler, "-static", "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=PROGRAM, text=True, check=True, timeout=600)
    assert subprocess.run([program], check=False, timeout=600).returncode == 0
    # gcc's name of the platform says glibc.
    said = subprocess.run(
        [*found.compiler, "--print-multiarch"], capture_output=True, check=True, timeout=600
    )
    assert said.stdout == b""


def test_without_musl_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(libc.LibcError, match=r"install musl-tools .* INTERPRETER=distribution"):
        libc.musl(tmp_path)


def test_without_the_headers_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc -nostdinc")
    with pytest.raises(libc.LibcError, match=r"<linux/…> are missing: install linux-libc-dev"):
        libc.musl(tmp_path)


def test_a_musl_without_static_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fedora has them in a package of their own."""
    wrapper = tmp_path / "musl-gcc"
    wrapper.write_text("#!/bin/sh\necho /usr/musl/Scrt1.o >&2\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(libc.LibcError, match=r"no rcrt1\.o of musl.*/usr/musl$"):
        libc.musl(tmp_path / ".")


def test_a_compiler_of_two_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "env gcc")
    found = libc.musl(tmp_path)
    command = [*found.compiler, "-x", "c", "-c", "-", "-o", "/dev/null"]
    subprocess.run(command, input=PROGRAM, text=True, check=True, timeout=600)


def test_clang_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "clang")
    with pytest.raises(libc.LibcError, match="CC is clang, and musl's wrapper needs gcc"):
        libc.musl(tmp_path)
