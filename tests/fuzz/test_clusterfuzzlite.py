# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What .clusterfuzzlite/build.sh makes, in the environment that OSS-Fuzz promises it: CC, CFLAGS,
LIB_FUZZING_ENGINE, OUT, SRC, WORK (OSS-Fuzz: "New project guide"). pip3 and compile_python_fuzzer,
which are the image's, are stand-ins that write down what they were asked for.
"""

import ast
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from fuzz.parsers import PARSERS, ROOT

_SANITIZE = "-O1 -gline-tables-only -fsanitize=address -fsanitize=fuzzer-no-link"
_NOTED = """#!/bin/sh
echo "$(basename "$0") $*" >>"$OUT/asked"
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$OUT after the build, of a copy of the tree."""
    base = tmp_path_factory.mktemp("clusterfuzzlite")
    tree, out, work, programs = (base / name for name in ("pyinit", "out", "work", "bin"))
    for directory in (tree, out, work, programs):
        directory.mkdir()
    for name in ("csrc", "fuzz", "pyinit", ".clusterfuzzlite"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("pip3", "compile_python_fuzzer"):
        (programs / name).write_text(_NOTED)
        (programs / name).chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        ["bash", ".clusterfuzzlite/build.sh"],
        cwd=tree, capture_output=True, text=True, check=False, timeout=600,
        stdin=subprocess.DEVNULL,
        env=inherited | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CC": "clang", "CFLAGS": _SANITIZE, "CXX": "clang++", "CXXFLAGS": _SANITIZE,
            "LIB_FUZZING_ENGINE": "-fsanitize=fuzzer",
            "SRC": str(base), "OUT": str(out), "WORK": str(work),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for script in tree.glob("fuzz_*.py"):
        shutil.copy(script, out)
    return out


@pytest.mark.parametrize("name", PARSERS)
def test_each_parser_has_a_fuzzer(out: Path, name: str) -> None:
    if not PARSERS[name].is_c:
        asked = (out / "asked").read_text().splitlines()
        assert f"compile_python_fuzzer fuzz_{name}.py --hidden-import _cfs" in asked
        ast.parse((out / f"fuzz_{name}.py").read_text())
        return
    done = subprocess.run(
        [out / f"fuzz_{name}", "-runs=100", f"-dict={out}/fuzz_{name}.dict"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_libraries_are_beside_what_needs_them(out: Path) -> None:
    done = subprocess.run(
        ["ldd", out / "fuzz_inflate"], capture_output=True, text=True, check=True, timeout=60
    )
    for name in ("crypto", "isal", "z", "zstd"):
        assert f" => {out}/lib/lib{name}.so" in done.stdout.replace("/./", "/")


@pytest.mark.parametrize("name", PARSERS)
def test_each_fuzzer_has_its_seeds(out: Path, name: str) -> None:
    with zipfile.ZipFile(out / f"fuzz_{name}_seed_corpus.zip") as seeds:
        files = [entry for entry in seeds.infolist() if not entry.is_dir()]
    assert len(files) == sum(len(list(path.iterdir())) for path in PARSERS[name].corpus)
