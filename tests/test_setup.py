# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The installed package: a wheel for one minor version of Python, with types and commands."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import pyinit
from tests.host.store import written

ROOT = Path(__file__).resolve().parents[1]
EXT_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that our own tree stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, tree)
        elif path.name not in ("build", "fuzz", "tests") and not path.name.startswith("."):
            shutil.copytree(path, tree / path.name, ignore=left_out)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """Without the network."""
    return build_wheel(tree, tree / "out")


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    command = ["-W", "ignore", "setup.py", "-q", "sdist", "-d", "sdist"]
    run(sys.executable, *command, cwd=tree)
    (built,) = (tree / "sdist").iterdir()
    return built


def build_wheel(source: Path, out: Path) -> Path:
    options = ("--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", str(out))
    run(*PIP, "wheel", *options, str(source), SOURCE_DATE_EPOCH="1700000000")
    (built,) = out.glob("*.whl")
    return built


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=cwd,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_for_one_minor_version(wheel: Path) -> None:
    """`_cfs` would fit any; pybind11 knows one."""
    mine = f"cp3{sys.version_info.minor}"
    assert f"-{mine}-{mine}-linux_" in wheel.name


def test_the_wheel_holds_module_types_and_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"_cfs.abi3.so", "_cfs.pyi", "pyinit/py.typed", "pyinit/initrd/main.py"} <= set(names)
    assert {"_cfshost.pyi", f"_cfshost{EXT_SUFFIX}"} <= set(names)
    for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
        assert any(name.endswith(f"/{licence}") for name in names)
    assert not any(name.startswith(("tests", "csrc")) for name in names)


def test_the_sdist_holds_what_packages_are_made_of(sdist: Path, tree: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    everything = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    directories = (
        *("completions", "csrc", "debian", "docs", "dracut-module", "man", "packaging", "pyinit"),
    )
    wanted = {name for name in everything if name.partition("/")[0] in directories}
    wanted |= {
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "pyproject.toml",
        "setup.py",
    }
    assert len(wanted) > 100
    assert {name for name in wanted if not name.endswith(".pyc")} <= names
    assert not [name for name in names if name.endswith(".pyc")]


def test_the_wheel_is_the_same_from_another_folder(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    """From the sdist, unpacked elsewhere."""
    other = build_wheel(sdist, tmp_path)
    assert other.name == wheel.name
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(other) as theirs:
        assert ours.namelist() == theirs.namelist()
        for name in ours.namelist():
            assert ours.read(name) == theirs.read(name), name
    assert other.read_bytes() == wheel.read_bytes()


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    assert wheel.name.startswith(f"composefs_init-{pyinit.VERSION}-")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = email.message_from_bytes(archive.read(name))
    # Older setuptools have another field for it: see setup.py.
    licence = about["License-Expression"] or about["License"]
    assert licence == "Apache-2.0 OR MIT"
    assert set(about.get_all("License-File", [])) >= {"LICENSE-APACHE", "LICENSE-MIT"}
    assert (about["Author"], about["Author-email"]) == ("The pyinit authors", None)
    assert about["Keywords"]
    assert about.get_all("Project-URL")
    assert "# pyinit" in str(about.get_payload())


def imported_by_the_host_tools() -> set[str]:
    """The top-level names that the package imports, anywhere in a file."""
    found = set()
    for path in (ROOT / "pyinit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"pyinit", "_cfs", "_cfshost", "posix", "_typeshed"}


def test_what_is_imported_is_what_is_depended_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The builder of the executable runs where the tree is built, and not where it is installed.
    needed = imported_by_the_host_tools() - {"elftools"}
    assert {re.split(r"[ <>=]", text)[0] for text in project["dependencies"]} == needed
    control = (ROOT / "debian" / "control").read_text()
    [depends] = re.findall(r"^Depends:\n(.*?)^\S", control, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^ python3-(\w+)", depends, re.MULTILINE)) == needed
    spec = (ROOT / "packaging" / "pyinit.spec").read_text()
    assert set(re.findall(r"^Requires: +python3-(\w+)", spec, re.MULTILINE)) == needed


def test_its_commands_run(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path))
    site = next((tmp_path / "lib").glob("python*/site-packages"))
    run(*PIP, "--python", str(tmp_path / "bin" / "python"), "install", "--no-deps", str(wheel))
    assert (site / "_cfs.abi3.so").exists()
    for name in ("cfs-mount", "mount.cfs"):
        assert run(str(tmp_path / "bin" / name), "--version") == f"{name} {pyinit.VERSION}\n"
    for name in ("cfs-uki", "cfs-store"):
        assert (tmp_path / "bin" / name).exists()
    image = tmp_path / "image"
    image.write_bytes(written.image(written.directory((b"file", written.inline(b"text")))))
    assert run(str(tmp_path / "bin" / "cfs-store"), "ls", str(image)) == "/file\n"
    for page in (ROOT / "man").iterdir():
        assert (tmp_path / f"share/man/man{page.suffix[1:]}" / page.name).exists()
    # Nothing else is installed there: no library is needed to check a configuration.
    run(
        str(tmp_path / "bin" / "cfs-init-config"),
        "check",
        "pyinit/host/config/setup-root-conf.toml",
    )
