# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the hardening flags leave in the files that ship."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pyinit.host.frozen import build, flags, interpreter

ROOT = Path(__file__).resolve().parents[1]


def symbols(path: Path, table: str) -> set[str]:
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(table)
        assert isinstance(section, SymbolTableSection)
        return {symbol.name for symbol in section.iter_symbols()}


ENGINE = f"_cfshost{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension modules, as setup.py builds them."""
    out = tmp_path_factory.mktemp("extension")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext"]
    subprocess.run(
        [*command, "--build-lib", str(out), "--build-temp", str(out / "temp")],
        cwd=ROOT, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    return out


@pytest.fixture(params=["_cfs.abi3.so", ENGINE], ids=["core", "engine"])
def extension(request: pytest.FixtureRequest, built: Path) -> Path:
    return built / str(request.param)


def test_the_extension_is_hardened(extension: Path) -> None:
    with extension.open("rb") as file:
        elf = ELFFile(file)
        segments = {segment["p_type"]: segment for segment in elf.iter_segments()}
        assert "PT_GNU_RELRO" in segments
        assert not segments["PT_GNU_STACK"]["p_flags"] & 1
        assert not any(
            segment["p_flags"] & 3 == 3
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
        )
        dynamic = elf.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
    assert tags["DT_FLAGS"] & 0x8  # DF_BIND_NOW
    assert not {"DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"} & set(tags)
    imported = symbols(extension, ".dynsym")
    assert "__stack_chk_fail" in imported
    # The engine copies by the C++ library.
    assert extension.name == ENGINE or {n for n in imported if re.fullmatch(r"__\w+_chk", n)}


def test_nothing_of_the_extension_is_exported_but_its_start(extension: Path) -> None:
    with extension.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        exported = {
            symbol.name
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        }
    assert exported == {f"PyInit_{extension.name.partition('.')[0]}"}


@pytest.mark.parametrize("kind", interpreter.KINDS)
def test_the_executable_has_canaries_and_checked_copies(kind: str, tmp_path: Path) -> None:
    """Read from the file with symbols; the stripped one is the same code."""
    build.build(ROOT, tmp_path, kind=kind)
    there = symbols(tmp_path / f"{build.NAME}.debug", ".symtab")
    assert "__stack_chk_fail" in there
    # musl has no checked copies (_FORTIFY_SOURCE).
    checked = {name for name in there if re.fullmatch(r"__\w+_chk", name)}
    assert bool(checked) == (kind == interpreter.DISTRIBUTION)


def compiles(*options: str) -> bool:
    command = [*flags.compiler(), "-O2", "-Werror", *options]
    done = subprocess.run(
        [*command, "-x", "c", "-c", "-", "-o", "/dev/null"],
        input="int main(void) { return 0; }", text=True, check=False, timeout=600,
        capture_output=True,
    )  # fmt: skip
    return done.returncode == 0


def use(monkeypatch: pytest.MonkeyPatch, compiler: str) -> list[str]:
    monkeypatch.setenv("CC", compiler)
    return flags.hardening()


# setup-debian.sh installs the first two. A cross compiler is tried where there is one; the next
# test has something like it everywhere.
COMPILERS = ["gcc", "clang", *filter(shutil.which, ["aarch64-linux-gnu-gcc"])]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_each_flag_is_known_to_the_compiler(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(monkeypatch, compiler)
    assert compiles(*found)
    assert not compiles("-fno-such-flag")
    linked = flags.linking(build.LINK)
    assert set(linked) >= {"-Wl,-z,relro", "-Wl,-z,now", "-Wl,--gc-sections"}
    assert "-Wl,--no-such-flag" not in flags.linking([*build.LINK, "-Wl,--no-such-flag"])
    # What every compiler of these years has.
    assert set(found) >= {
        "-Werror=format-security", "-D_FORTIFY_SOURCE=3", "-fstack-clash-protection",
        "-fstack-protector-strong", "-fno-strict-overflow",
    }  # fmt: skip
    assert [flag for flag in found if flag.startswith("-ftrivial-auto-var-init=")]
    machine = platform.machine() if compiler in ("gcc", "clang") else compiler.partition("-")[0]
    branches = {"x86_64": "-fcf-protection=full", "aarch64": "-mbranch-protection=standard"}
    assert branches[machine] in found


def test_a_compiler_for_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows other flags than one for this machine, and has tools of its own."""
    compiler = tmp_path / "cross-gcc"
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in\n'
        '*" -fcf-protection"* | *-auto-var-init=zero*) echo not supported >&2; exit 1 ;;\n'
        '*" -print-prog-name="*) echo "/cross/${1#*=}"; exit ;;\nesac\n'
        "for word; do\n  shift\n"
        '  [ "$word" = -mbranch-protection=standard ] || set -- "$@" "$word"\n'
        'done\nexec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    found = use(monkeypatch, str(compiler))
    assert "-mbranch-protection=standard" in found
    assert "-ftrivial-auto-var-init=pattern" in found
    assert not {"-fcf-protection=full", "-ftrivial-auto-var-init=zero"} & set(found)
    assert "-fstack-protector-strong" in found
    assert flags.tool("strip") == "/cross/strip"


def test_clang_builds_the_extension(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext"]
    done = subprocess.run(
        [*command, "--build-lib", str(tmp_path), "--build-temp", str(tmp_path / "temp")],
        cwd=ROOT, env=os.environ | {"CC": "clang"}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PyInit__cfs" in symbols(tmp_path / "_cfs.abi3.so", ".dynsym")
    assert "PyInit__cfshost" in symbols(tmp_path / ENGINE, ".dynsym")
