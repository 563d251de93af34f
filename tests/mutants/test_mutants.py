# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The changes are those that are meant; the cell holds; what a test notices counts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from . import belongs, c_changes, python_changes
from .cell import command
from .change import exceptions
from .worker import _run

PYTHON = b"""\
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
FLAGS = posix.O_RDONLY | A | B | C | posix.O_CLOEXEC


def look(name: "str | None", x: int | None = None) -> "int | str":
    while line := read():
        if x and line < 3:
            raise Refused(name)
    try:
        stat(name, follow_symlinks=False)
    except OSError:
        raise Refused(name) from None
    return [y for y in x if y] if x else 0
"""
PYTHON_CHANGES = """\
4 A: left out
4 B: left out
4 C: left out
8 line := read(): always false
9 x: left out
9 x and line < 3: always false
9 x and line < 3: always true
9 line < 3: left out
12 False: is True
14 raise Refused(name) from None: left out
15 y: always false
15 y: always true
15 x: always false
15 x: always true
"""
C = b"""\
#define LARGE(x) ((x) > 1 || (x) < 0)
#if LARGE && 0
#endif
static int look(int fd)
{
	if (fd < 0 && error | A | O_RDONLY | B)
		return -EINVAL;
	for (int i = 0; i < 3; i++)
		fd += i > 1 ? 1 : 0;
	while (fd)
		fd--;
	return 0;
}
"""
C_CHANGES = """\
6 fd < 0: left out
6 fd < 0 && error | A | O_RDONLY | B: always false
6 fd < 0 && error | A | O_RDONLY | B: always true
6 error: left out
6 error | A | O_RDONLY | B: left out
6 A: left out
6 B: left out
8 i < 3: always false
9 i > 1: always false
9 i > 1: always true
10 fd: always false
"""


def test_changes_of_python() -> None:
    found = python_changes.changes("x.py", PYTHON)
    assert "".join(f"{c.line} {c.was}: {c.what}\n" for c in found) == PYTHON_CHANGES


def test_changes_of_c() -> None:
    found = c_changes.changes("x.c", C)
    assert "".join(f"{c.line} {c.was}: {c.what}\n" for c in found) == C_CHANGES


@pytest.mark.parametrize("name", [name for name in belongs.files() if name.endswith(".py")])
def test_a_changed_python_file_can_be_compiled(name: str) -> None:
    source = (belongs.REPOSITORY / name).read_bytes()
    for change in python_changes.changes(name, source):
        compile(change.apply(source), name, "exec")


def test_each_file_has_tests() -> None:
    for name in belongs.files():
        for test in (*belongs.near(name), *belongs.far(name)):
            assert (belongs.REPOSITORY / test).exists(), (name, test)


def test_each_exception_is_of_a_change_that_is_there() -> None:
    changes = [
        change
        for name in {entry.path for entry in exceptions()}
        for change in (c_changes if name.endswith(".c") else python_changes).changes(
            name, (belongs.REPOSITORY / name).read_bytes()
        )
    ]
    for entry in exceptions():
        assert any(entry.covers(change) for change in changes), entry
        assert entry.why


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("a cell needs root")
    return tmp_path_factory.mktemp("cell")


@pytest.mark.parametrize(
    "attempt",
    [
        "touch {outside}",
        "touch /etc/pyinit-was-here",
        "touch /tmp/pyinit-was-here",
        "rmdir {directory}",
        "kill -0 {pid}",
        "test -e /proc/{pid}/status && grep -q pytest /proc/{pid}/cmdline",
        "echo 1 >/proc/sys/kernel/printk",
        "ls /dev/*[a-z][0-9] /dev/loop* /dev/kvm",
        "grep -v lo: /proc/net/dev | grep :",
        "{python} -c 'import ctypes; raise SystemExit(ctypes.CDLL(None).reboot(0x89ABCDEF))'",
    ],
)
def test_a_change_reaches_nothing_but_its_copy(cell: Path, attempt: str) -> None:
    outside = cell.parent / "outside"
    directory = cell.parent / "empty"
    directory.mkdir(exist_ok=True)
    script = attempt.format(
        outside=outside, directory=directory, pid=os.getpid(), python=sys.executable
    )
    done = subprocess.run(
        command(cell, "sh", "-c", script), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0, done
    assert not outside.exists()
    assert directory.exists()


def test_a_change_may_use_its_copy(cell: Path) -> None:
    script = 'touch here && touch "$TMPDIR/there" && mkfifo fifo && test "$(id -u)" = 0 && exit 7'
    done = subprocess.run(command(cell, "sh", "-c", script), timeout=300, check=False)
    assert done.returncode == 7
    assert (cell / "tmp/there").exists()


def test_a_cell_has_terminals_of_its_own(cell: Path) -> None:
    script = "import os; ours, theirs = os.openpty(); print(os.ttyname(theirs))"
    done = subprocess.run(
        command(cell, "python3", "-c", script), capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    assert done.stdout == "/dev/pts/0\n"


@pytest.mark.parametrize(
    ("body", "noticed", "how"),
    [
        ("def test_it(): pass", False, ""),
        ("def test_it(): assert False", True, "a test failed"),
        ("import no_such_module", True, "not importable"),
        ("import os\ndef test_it(): os.kill(os.getpid(), 9)", True, "ended by signal 9"),
        ("import os\ndef test_it(): os._exit(0)", True, "exit 0 before the end"),
    ],
)
def test_what_counts_as_noticed(tmp_path: Path, body: str, noticed: bool, how: str) -> None:
    assert verdict(tmp_path, body, 500, 2000) == (noticed, how)


def verdict(tmp_path: Path, body: str, cpu: float, wall: float) -> tuple[bool, str]:
    (tmp_path / "conftest.py").write_text("from tests import conftest")
    (tmp_path / "test_it.py").write_text(body)
    return _run([str(tmp_path / "test_it.py")], cpu, wall, tmp_path / "log")


def test_a_test_that_waits_for_ever_has_noticed(tmp_path: Path) -> None:
    """Not its use of the processor ends it: it has more of that than a start of pytest needs."""
    found = verdict(tmp_path, "import time\ndef test_it(): time.sleep(600)", 60, 12)
    assert found == (True, "not ended after 12 s")


def test_what_goes_round_is_ended_by_its_use_of_the_processor(tmp_path: Path) -> None:
    """And not by the clock: on a busy machine that would end others too."""
    found = verdict(tmp_path, "def test_it():\n    while True: pass", 1, 500)
    assert found == (True, f"ended by signal {int(signal.SIGXCPU)}")


def test_no_test_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("")
    with pytest.raises(RuntimeError, match="no test"):
        _run([str(tmp_path / "test_it.py")], 600, 2400, tmp_path / "log")
