# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A build for another processor; where the tools are there, the whole of one."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pyinit.host.frozen import build, elf, flags, foreign, interpreter
from pyinit.host.frozen.apt import AptError

ROOT = Path(__file__).parents[2]
OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"


def program(place: Path, text: str) -> None:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))
    return place


def test_a_missing_compiler_has_its_package(path: Path) -> None:
    with pytest.raises(foreign.ForeignError, match="install gcc-aarch64-linux-gnu"):
        foreign.compiler("aarch64")
    with pytest.raises(foreign.ForeignError, match="install gcc-x86-64-linux-gnu"):
        foreign.compiler("x86_64")
    program(path / "aarch64-linux-gnu-gcc", "exit")
    assert foreign.compiler("aarch64") == "aarch64-linux-gnu-gcc"


def test_a_processor_without_an_entry_point(path: Path) -> None:
    with pytest.raises(
        foreign.ForeignError, match=r"^--target riscv64, expected one of aarch64, x86_64$"
    ):
        foreign.compiler("riscv64")
    with pytest.raises(foreign.ForeignError, match=r"s390x: it is big-endian, .* expected one of"):
        foreign.compiler("s390x")


def test_a_missing_emulator_has_its_package(path: Path) -> None:
    with pytest.raises(foreign.ForeignError, match="qemu-user"):
        foreign.emulator("aarch64")
    program(path / "qemu-aarch64", "exit")
    assert foreign.emulator("aarch64") == f"{path}/qemu-aarch64"


def test_an_installed_musl_is_taken(path: Path, tmp_path: Path) -> None:
    program(path / "aarch64-linux-musl-gcc", "exit")
    assert foreign.wrapper("aarch64", tmp_path) == f"{path}/aarch64-linux-musl-gcc"


def test_without_apt_it_says_what_is_missing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(foreign.ForeignError, match=r"^aarch64-linux-musl-gcc is missing"):
        foreign.wrapper("aarch64", tmp_path)


class Apt:
    """With a package as Debian has it, or without."""

    fails = ""

    def __init__(self, place: Path, architecture: str) -> None:
        assert architecture == "arm64"
        self.place = place
        place.mkdir()

    def update(self) -> None:
        if self.fails:
            raise AptError(self.fails)

    def package(self, name: str) -> Path:
        assert name == "musl-dev"
        tree = self.place / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            "Package: musl-dev\nVersion: 1\nArchitecture: arm64\nMaintainer: a\nDescription: a\n"
        )
        place = tree / "usr/lib/aarch64-linux-musl"
        place.mkdir(parents=True)
        (place / "musl-gcc.specs").write_text(
            "-isystem /usr/include/aarch64-linux-musl -L/usr/lib/aarch64-linux-musl\n"
            "-dynamic-linker /lib/ld-musl-aarch64.so.1\n"
        )
        file = self.place / "musl-dev.deb"
        subprocess.run(["dpkg-deb", "-b", tree, file], check=True, stdout=subprocess.DEVNULL)
        return file


def test_musl_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "Apt", Apt)
    have = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "musl" in name else have(name))
    wrapper = foreign.wrapper("aarch64", tmp_path)
    assert f'-specs "{tmp_path}/musl-aarch64/musl-gcc.specs"' in Path(wrapper).read_text()
    assert (tmp_path / "musl-aarch64/musl-gcc.specs").read_text() == (
        f"-isystem {tmp_path}/musl-aarch64/usr/include/aarch64-linux-musl "
        f"-L{tmp_path}/musl-aarch64/usr/lib/aarch64-linux-musl\n"
        "-dynamic-linker /lib/ld-musl-aarch64.so.1\n"
    )
    assert not (tmp_path / "apt").exists()
    monkeypatch.setattr(Apt, "fails", "no network")
    assert foreign.wrapper("aarch64", tmp_path) == wrapper


def test_musl_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "Apt", Apt)
    monkeypatch.setattr(Apt, "fails", "apt-get update: E: no network")
    have = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "musl" in name else have(name))
    with pytest.raises(foreign.ForeignError, match=r"(?s)no network.*install musl-dev:arm64"):
        foreign.wrapper("aarch64", tmp_path)
    assert not (tmp_path / "musl-aarch64").exists()


def test_another_target_than_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc")
    with pytest.raises(build.BuildError, match=f"--target is {OTHER}: unset CC"):
        build.main(ROOT, target=OTHER)


def test_the_distributions_library_is_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "cc", f"echo {OTHER}-linux-gnu")
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    assert flags.foreign() == OTHER
    with pytest.raises(interpreter.InterpreterError, match=f"libpython is not for {OTHER}"):
        interpreter.interpreter(interpreter.DISTRIBUTION, tmp_path)


def test_a_file_for_another_processor_is_told(executable: Path) -> None:
    elf.check(executable, machine=platform.machine())
    with pytest.raises(elf.ElfError, match=f"not for {OTHER}"):
        elf.check(executable, machine=OTHER)


# ---- a whole build


@pytest.mark.all_only
def test_a_build_for_the_other_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interpreter is cross-compiled, its snapshot is taken in QEMU, and it runs there at other
    load addresses. Two builds are one file."""
    missing = [
        name
        for name in (f"{OTHER}-linux-gnu-gcc", f"qemu-{OTHER}-static")
        if not shutil.which(name)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: `make check-arm64` installs them")
    monkeypatch.setenv("CC", foreign.compiler(OTHER))
    files = [build.build(ROOT, tmp_path / name, kind="source") for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with files[0].open("rb") as file:
        assert ELFFile(file)["e_machine"] == elf.MACHINES[OTHER]
    for memory in ("0x4000000000", "0x4012345000", "0x7000000000"):

        def run(*words: str, memory: str = memory) -> subprocess.CompletedProcess[str]:
            emulator = [foreign.emulator(OTHER), "-R", memory, "-0", "cfs-mount", str(files[0])]
            return subprocess.run(
                [*emulator, *words], capture_output=True, text=True, check=False, env=os.environ
            )

        assert run("--version").stdout.startswith("cfs-mount ")
        refused = run("/nowhere")
        assert refused.returncode == 1
        assert refused.stderr.startswith("cfs-mount: error: usage: ")
