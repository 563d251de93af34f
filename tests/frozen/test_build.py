# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The file that comes out: what it holds, what it weighs, and that it always comes out the same."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pyinit.host.frozen import build, elf, interpreter, source
from tests.frozen.conftest import ROOT

# zstd -19, bytes: what an initrd pays. These are what is reached, with room to grow. Debian 12 has
# 3.11, and Debian 13 has 3.13.
BUDGETS = {
    ("source", (3, 11)): 600_000,
    ("source", (3, 13)): 870_000,
    ("distribution", (3, 11)): 1_400_000,
    ("distribution", (3, 13)): 1_650_000,
}


def test_the_executable_keeps_the_rules(executable: Path) -> None:
    elf.check(executable)


def test_a_dynamic_program_breaks_them() -> None:
    with pytest.raises(elf.ElfError, match=r"PT_INTERP.*needs the library libc"):
        elf.check(Path("/bin/true"))


def test_the_linker_is_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ignores an option that it does not have for the target: -z pack-relative-relocs for arm64,
    2.40. What libc.a says each time is left out."""
    program = tmp_path / "program.c"
    program.write_text(
        "#include <pwd.h>\nint main(void) { return getpwnam(0) != 0 || getpwuid(0) != 0; }\n"
    )
    options = ["-w", "-static", "-Wl,-z,nonsense", "-o", str(tmp_path / "program")]
    build._run(["gcc", program, *options], build._without_users)
    said = capsys.readouterr().err
    assert "warning: -z nonsense ignored" in said
    assert len(said.splitlines()) == 1, said


EXECUTABLE_DATA = '__asm__(".section both, \\"awx\\"\\n.byte 0\\n.text");'


@pytest.mark.parametrize(
    ("flags", "extra", "fault"),
    [
        (["-static-pie", "-zexecstack"], "", "executable stack"),
        (["-static", "-no-pie"], "", "not position-independent"),
        (["-static-pie", "-znorelro"], "", "no RELRO"),
        (["-static-pie"], EXECUTABLE_DATA, "writable and executable"),
        (["-static-pie"], "", "not stripped"),
    ],
)
def test_each_rule_is_checked(tmp_path: Path, flags: list[str], extra: str, fault: str) -> None:
    program = tmp_path / "program"
    source = f"{extra} int main(void) {{ return 0; }}"
    command = ["gcc", "-fPIE", *flags, "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=source, text=True, check=True, timeout=600, capture_output=True)
    with pytest.raises(elf.ElfError, match=fault):
        elf.check(program)


def test_a_relocation_in_the_window_is_found(executable: Path, tmp_path: Path) -> None:
    """As it would be if the window's relocations were left in the table: the first entry of the
    table of relative relocations is made one of them."""
    with executable.open("rb") as file:
        elf_file = ELFFile(file)
        dynamic = next(s for s in elf_file.iter_segments() if s["p_type"] == "PT_DYNAMIC")
        table = next(tag.entry.d_val for tag in dynamic.iter_tags("DT_RELR"))
        (at,) = elf_file.address_offsets(table)
        window = [s for s in elf_file.iter_segments() if s["p_type"] == "PT_LOAD"][-2]["p_vaddr"]
    data = bytearray(executable.read_bytes())
    struct.pack_into("<Q", data, at, window)
    program = tmp_path / "program"
    program.write_bytes(data)
    with pytest.raises(elf.ElfError, match=f"a relocation of RELR at {window:#x}, outside"):
        elf.check(program)


def test_a_path_of_the_build_is_found(executable: Path) -> None:
    with pytest.raises(elf.ElfError, match="contains the text"):
        elf.check(executable, forbidden=["pyinit/initrd/main.py"])


def test_nothing_left_out_comes_back(tmp_path: Path) -> None:
    link_map = tmp_path / "map"
    link_map.write_text("libpython3.11-pic.a(compile.o)\n\nDiscarded input sections\n")
    with pytest.raises(build.BuildError, match=r"compile\.o came back"):
        build._check_map(link_map)


def test_the_size_keeps_its_budget(executable: Path, kind: str) -> None:
    packed = subprocess.run(
        ["zstd", "-19", "-q", "-c", executable], capture_output=True, check=True, timeout=600
    )
    assert len(packed.stdout) <= BUDGETS[kind, sys.version_info[:2]]


BUILD = (
    "import sys; from pathlib import Path; from pyinit.host.frozen import build;"
    "build.build(Path(sys.argv[1]), Path(sys.argv[2]), kind=sys.argv[3])"
)


@pytest.mark.timeout(3600)
def test_two_builds_are_identical(executable: Path, kind: str, tmp_path: Path) -> None:
    """Elsewhere, by another process with other hashes of strings: of the interpreter too."""
    tree = tmp_path / "another" / "tree"
    for part in ("csrc", "packaging", "pyinit"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    fetched = source.tree(ROOT / "build/interpreter") if kind == interpreter.SOURCE else tmp_path
    out = tmp_path / "out"
    subprocess.run(
        [sys.executable, "-c", BUILD, tree, out, kind],
        check=True,
        timeout=3600,
        capture_output=True,
        env={
            **os.environ,
            "PYTHONHASHSEED": "1234",
            "PYTHONPATH": f"{tree}",
            "PYTHON_SOURCE": str(fetched),
        },
        cwd=tree,
    )
    assert (out / build.NAME).read_bytes() == executable.read_bytes()


def test_a_build_without_random_addresses(executable: Path, kind: str, tmp_path: Path) -> None:
    """As under ASan: the build undoes `setarch -R`, for it compares load addresses."""
    command = ["setarch", "-R", sys.executable, "-c", BUILD, str(ROOT), str(tmp_path), kind]
    subprocess.run(command, check=True, timeout=600, capture_output=True, cwd=ROOT)
    assert (tmp_path / build.NAME).read_bytes() == executable.read_bytes()


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    """`build_frozen` without pyelftools, as on a machine where nothing was installed yet."""
    (tmp_path / "elftools").mkdir()
    (tmp_path / "elftools/__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'elftools'\", name='elftools')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", "build_frozen"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "build_frozen: pyelftools is missing: install python3-pyelftools, or by pip"
    ]
