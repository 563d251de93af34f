# SPDX-License-Identifier: Apache-2.0 OR MIT
"""./run: make, which it installs where it is missing; what CI calls; what the demo needs."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What the scripts call, as programs that only say how they were called.
_SAYS = '#!/bin/sh\necho "{name} $*"\n'
_APT = (
    _SAYS
    + '[ "$3" != install ] && exit\nprintf \'%s\' "$MAKE" >"$BIN/make"\nchmod +x "$BIN/make"\n'
)


def run(directory: Path, script: str, *arguments: str, user: int = 0, make: bool) -> str:
    """What `script` says on a machine with nothing but these programs; with its exit code."""
    programs = directory / "bin"
    programs.mkdir()
    made = _SAYS.format(name="make") + "pwd\n"
    for name in ("dirname", "chmod", "sh", "timeout"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    texts = {"id": f"#!/bin/sh\necho {user}\n", "apt-get": _APT.format(name="apt-get")}
    texts |= {"make": made} if make else {}
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / script, *arguments],
        env={"PATH": str(programs), "BIN": str(programs), "MAKE": made},
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return f"{done.stdout}{done.returncode}"


def test_it_is_make_in_the_root_of_the_sources(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "check", "A=b c", make=True) == f"make check A=b c\n{ROOT}\n0"


def test_make_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "demo", make=False) == (
        "apt-get -q update\n"
        "apt-get -q -y install --no-install-recommends make\n"
        f"make demo\n{ROOT}\n0"
    )


def test_who_may_not_install_is_told_what(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "demo", user=1000, make=False) == (
        "make is missing, to be installed by root: apt-get install make\n1"
    )


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_it_can_be_called(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


def test_ci_checks(tmp_path: Path) -> None:
    assert run(tmp_path, ".ci/run", make=True) == f"make check\n{ROOT}\n0"


# ---- what is installed


def installed(directory: Path, *arguments: str) -> set[str]:
    """The packages that setup-debian.sh installs on a machine that has none of them."""
    directory.mkdir()
    texts = {"id": "#!/bin/sh\necho 0\n", "dpkg-query": "#!/bin/sh\nexit 1\n"}
    texts["apt-get"] = _SAYS.format(name="apt-get")
    for name, text in texts.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / "tests/setup-debian.sh", *arguments],
        env={"PATH": str(directory)}, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    update, install = done.stdout.splitlines()
    assert update == "apt-get -q update"
    options = "apt-get -q -y install --no-install-recommends "
    assert install.startswith(options)
    return set(install.removeprefix(options).split())


def test_the_demo_needs_less_than_the_tests(tmp_path: Path) -> None:
    demo, everything = installed(tmp_path / "demo", "demo"), installed(tmp_path / "all")
    assert demo < everything
    assert {"gcc", "mmdebstrap", "make"} <= demo
    assert {"clang", "llvm", "shellcheck", "python3-venv"} <= everything - demo


def modules(path: Path, found: dict[str, Path]) -> Iterator[str]:
    """What `path` imports, and what those of ours that it imports do: the others by name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            ours = ROOT / name.replace(".", "/")
            file = ours / "__init__.py" if ours.is_dir() else ours.with_suffix(".py")
            if file.exists() and name not in found:
                found[name] = file
                yield from modules(file, found)
            elif not (ROOT / name.partition(".")[0]).is_dir():
                yield name.partition(".")[0]


def test_the_demo_needs_nothing_by_pip() -> None:
    """The product's commands, which it starts, import tqdm only for a terminal."""
    found: dict[str, Path] = {}
    names = {name for path in (ROOT / "tests/demo").glob("*.py") for name in modules(path, found)}
    assert "tests.vm.guest" in found
    assert names - sys.stdlib_module_names == set()
