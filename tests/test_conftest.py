# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is said of a kernel that nobody has seen, and of what a mirror does not have."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
from pathlib import Path
import pytest
from tests.vm import kernels, toolbox
from tests.vm.apt import PackageError

toolbox.Toolbox.kernel = lambda box, role: toolbox.Kernel("{version}", Path(), Path())

@pytest.mark.parametrize("role", kernels.ROLES)
def test_by_role(role):
    assert not "other content"

@pytest.mark.newest
def test_by_mark():
    assert not "other content"

@pytest.mark.newest
def test_passes():
    pass

@pytest.fixture
def tool():
    raise PackageError("tools: that one is gone")

def test_with_tool(tool):
    pass
"""


NEW, SEEN = "99.1.2-cloud-amd64", "7.3.4+deb13-cloud-amd64"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What TESTS say when the newest kernel is this one."""
    return {version: _run(tmp_path_factory.mktemp("run"), version) for version in (NEW, SEEN)}


def _run(directory: Path, version: str) -> str:
    (directory / "test_it.py").write_text(TESTS.format(version=version))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", directory,
            "-p", "tests.conftest", "-p", "no:cacheprovider", directory / "test_it.py",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    ("version", "counts"),
    [
        (NEW, "2 failed, 1 xpassed, 2 xfailed, 1 error"),
        (SEEN, "4 failed, 1 passed, 1 error"),
    ],
)
def test_the_newest_must_hold_where_it_was_seen(
    said: dict[str, str], version: str, counts: str
) -> None:
    text = said[version]
    found = re.search(r"^=* *(\d.*) in [0-9.]+s", text, re.MULTILINE)
    assert found, text
    assert sorted(found[1].split(", ")) == sorted(counts.split(", "))


def test_what_differs_is_printed(said: dict[str, str]) -> None:
    text = said[NEW]
    for name in ("test_by_role[newest]", "test_by_mark"):
        assert re.search(
            rf"^\S*{re.escape(name)} differs on a kernel that was never seen before: 99\.1\.2\S*\n"
            r"(.*\n)+?E  *AssertionError",
            text,
            re.MULTILINE,
        ), text


def test_what_a_mirror_lacks_is_one_line(said: dict[str, str]) -> None:
    text = said[SEEN]
    assert re.search(
        r"^_+ ERROR at setup of test_with_tool _+\ntools: that one is gone\n", text, re.MULTILINE
    )


def test_no_example_fails_on_a_busy_machine() -> None:
    """By any of hypothesis' two limits of time."""
    now = settings()
    assert now.deadline is None
    assert HealthCheck.too_slow in now.suppress_health_check
