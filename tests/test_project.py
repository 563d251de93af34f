# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a project has besides its sources: a version, its release, and workflows that can run."""

import datetime as dt
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import pyinit

ROOT = Path(__file__).resolve().parents[1]
DATE = dt.date(2027, 1, 4)  # a Monday
STATED = ("CHANGELOG.md", "debian/changelog", "packaging/pyinit.spec", "pyinit/__init__.py")


def load(path: str) -> ModuleType:
    """A program that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


release = load("packaging/release.py")


# ---- one version


def test_one_version_stands_everywhere() -> None:
    found = release.stated(ROOT)
    assert set(found) == {*STATED, *(f"man/{page.name}" for page in (ROOT / "man").iterdir())}
    assert set(found.values()) == {pyinit.VERSION}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in STATED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "man", tmp_path / "man")
    text = (tmp_path / "CHANGELOG.md").read_text()
    head, found, rest = text.partition("## Unreleased\n")
    assert found
    (tmp_path / "CHANGELOG.md").write_text(f"{head}{found}\n- News.\n\n{rest.lstrip()}")
    return tmp_path


def test_a_release_is_prepared(tree: Path) -> None:
    before = (tree / "debian/changelog").read_text()
    changed = release.prepare(tree, "7.8.9", DATE)
    assert set(changed) == set(release.stated(ROOT))
    assert set(release.stated(tree).values()) == {"7.8.9"}
    news = (tree / "CHANGELOG.md").read_text()
    assert "## Unreleased\n\n## 7.8.9 (2027-01-04)\n\n- News.\n" in news
    debian = (tree / "debian/changelog").read_text()
    assert debian.startswith("pyinit (7.8.9-1) unstable; urgency=medium\n\n  * New release")
    assert f"Mon, 04 Jan 2027 12:00:00 +0000\n\n{before}" in debian
    spec = (tree / "packaging/pyinit.spec").read_text()
    assert "\n%changelog\n* Mon Jan 04 2027 pyinit maintainers" in spec
    # The next one has nothing to tell yet.
    with pytest.raises(release.ReleaseError, match="nothing under Unreleased"):
        release.prepare(tree, "7.9.0", DATE)
    assert set(release.stated(tree).values()) == {"7.8.9"}


@pytest.mark.parametrize(
    "version", [pyinit.VERSION, "0.0.9", "1.0", "v9.0.0", "9.0.0rc1", "9.00.0"]
)
def test_a_version_that_is_none_or_not_later(version: str, tree: Path) -> None:
    with pytest.raises(release.ReleaseError, match=re.escape(version)):
        release.prepare(tree, version, DATE)
    assert set(release.stated(tree).values()) == {pyinit.VERSION}


def test_a_tree_that_does_not_agree_with_itself(tree: Path) -> None:
    page = tree / "man/cfs-uki.8"
    page.write_text(page.read_text().replace(f".Os pyinit {pyinit.VERSION}", ".Os pyinit 0.0.1"))
    with pytest.raises(release.ReleaseError, match=r"man/cfs-uki\.8: 0\.0\.1, expected"):
        release.prepare(tree, "7.8.9", DATE)


def test_the_tag_of_another_version_makes_no_files() -> None:
    done = subprocess.run(
        [ROOT / "packaging/dist.sh", sys.executable, "v0.0.0"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    said = f"dist.sh: tag v0.0.0: this is version {pyinit.VERSION}, expected v{pyinit.VERSION}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("tag", [f"v{pyinit.VERSION}", ""])
def test_no_release_is_made_of_a_source_that_is_behind(tag: str, tmp_path: Path) -> None:
    """Without a tag it is no release, and said only."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f"case $* in -c*) echo {pyinit.VERSION};;\n"
        "*--check-source) echo old >&2; exit 1;;\n"
        "*) echo went on; exit 3;; esac\n"
    )
    python.chmod(0o755)
    packaging = tmp_path / "tree/packaging"
    packaging.mkdir(parents=True)
    shutil.copy(ROOT / "packaging/dist.sh", packaging)
    done = subprocess.run(
        [packaging / "dist.sh", python, tag],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1"},
    )  # fmt: skip
    refused = f"dist.sh: tag {tag}: no release while that is so\n"
    if tag:
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"old\n{refused}")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (3, "went on\n", "old\n")


# ---- what is called exists


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    phony = " ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE))
    rules = set(re.findall(r"^([a-z0-9-]+):", text, re.MULTILINE))
    assert set(phony.split()) == rules
    return rules


def called(text: str) -> list[str]:
    return re.findall(r"(?:\./run|\bmake) ([a-z][a-z0-9-]*(?: [a-z]+)*)\b", text)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda path: path.stem
)
def test_a_workflow_calls_targets_that_exist(path: Path) -> None:
    commands = re.findall(r"^\s*- run: (.*)$", path.read_text(), re.MULTILINE)
    found = {
        target for command in commands for words in called(command) for target in words.split()
    }
    assert found
    assert found <= targets()
    # Each step is such a target; what has to be there before is no test of ours.
    rest = [command for command in commands if not called(command)]
    assert all(command.startswith(("apt-get ", "git config ")) for command in rest), rest


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_contributors_are_told_of_targets_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    found = {target for words in called(text) for target in words.split()}
    assert found >= {"lint", "check", "completions"}
    assert found <= targets()
    for name in re.findall(r"`([a-z-]+/[a-z_/.-]*)`|\]\(([A-Za-z./]+)\)", text):
        assert (ROOT / (name[0] or name[1])).exists(), name


def test_the_readme_clones_from_the_home_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [url] = re.findall(r"^    git clone (\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert url.startswith(project["urls"]["Homepage"])


def test_contributing_is_one_page() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    assert len(lines) < 80
