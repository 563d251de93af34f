# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A build for another processor; where the tools are there, the whole of one."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pyinit.host.frozen import build, elf, foreign, interpreter
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


def packed(tree: Path, name: str) -> Path:
    """A package with these files."""
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: arm64\nMaintainer: a\nDescription: a\n"
    )
    file = tree.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "-b", tree, file], check=True, stdout=subprocess.DEVNULL)
    return file


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
        place = tree / "usr/lib/aarch64-linux-musl"
        place.mkdir(parents=True)
        (place / "musl-gcc.specs").write_text(
            "-isystem /usr/include/aarch64-linux-musl -L/usr/lib/aarch64-linux-musl\n"
            "-dynamic-linker /lib/ld-musl-aarch64.so.1\n"
        )
        return packed(tree, name)


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


class Libpython(Apt):
    """As Debian's package has it."""

    def package(self, name: str) -> Path:
        version = name.removeprefix("libpython").removesuffix("-dev")
        tree = self.place / "tree"
        library = f"usr/lib/python{version}/config-{version}-aarch64-linux-gnu"
        for file in (
            f"{library}/libpython{version}-pic.a",
            f"usr/include/python{version}/Python.h",
            f"usr/include/aarch64-linux-gnu/python{version}/pyconfig.h",
        ):
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).touch()
        return packed(tree, name)


@pytest.fixture
def no_apt_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)


def test_the_distributions_library_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not this machine's, which is for another processor."""
    program(tmp_path / "cc", "echo aarch64-linux-gnu")
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    monkeypatch.setattr(foreign, "Apt", Libpython)
    monkeypatch.setattr(foreign, "ROOT", tmp_path / "nothing")
    if platform.machine() == "aarch64":
        pytest.skip("this machine's library is the right one")
    found = interpreter.interpreter(interpreter.DISTRIBUTION, tmp_path)
    assert found.archive.exists()
    assert found.archive.is_relative_to(tmp_path)
    assert (found.includes[0] / "Python.h").exists()
    assert list(found.includes[1].glob("aarch64-linux-gnu/python3.*/pyconfig.h"))
    assert not (tmp_path / "apt").exists()
    monkeypatch.setattr(Apt, "fails", "no network")
    assert interpreter.interpreter(interpreter.DISTRIBUTION, tmp_path) == found


def test_an_installed_library_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_apt_get: None
) -> None:
    monkeypatch.setattr(foreign, "ROOT", tmp_path)
    with pytest.raises(foreign.ForeignError, match=r"-pic\.a is missing: .*INTERPRETER=source"):
        foreign.libpython("aarch64", tmp_path / "work")
    library, _ = foreign.installed_libpython(tmp_path, "aarch64")
    library.parent.mkdir(parents=True)
    library.touch()
    assert foreign.libpython("aarch64", tmp_path / "work")[0] == library


def test_a_library_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "Apt", Libpython)
    monkeypatch.setattr(foreign, "ROOT", tmp_path)
    monkeypatch.setattr(Apt, "fails", "apt-get update: E: no network")
    with pytest.raises(
        foreign.ForeignError, match=r"(?s)no network.*install libpython3\.\d+-dev:arm64$"
    ):
        foreign.libpython("aarch64", tmp_path)


def test_a_file_for_another_processor_is_told(executable: Path) -> None:
    elf.check(executable, machine=platform.machine())
    with pytest.raises(elf.ElfError, match=f"not for {OTHER}"):
        elf.check(executable, machine=OTHER)


# ---- a whole build


@pytest.mark.all_only
@pytest.mark.parametrize("kind", interpreter.KINDS)
def test_a_build_for_the_other_processor(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its interpreter is cross-compiled, or of the distribution's package for it. Its snapshot is
    taken in QEMU, and it runs there at other load addresses. Two builds are one file."""
    missing = [
        name
        for name in (f"{OTHER}-linux-gnu-gcc", f"qemu-{OTHER}-static")
        if not shutil.which(name)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: `make check-arm64` installs them")
    monkeypatch.setenv("CC", foreign.compiler(OTHER))
    files = [build.build(ROOT, tmp_path / name, kind=kind) for name in ("one", "two")]
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
