# SPDX-License-Identifier: Apache-2.0 OR MIT
"""For all tests: no time limit for examples, what the suites of Debian have today, what a run says
at its end, and which tests it leaves to `make check-all`.

A test for the newest kernel (a parameter `role` says so, or the mark `newest`) must pass on a
series that is known to be good. On one that nobody has seen yet, a failure is printed at the end,
and fails `make matrix` only: it may be the kernel's own.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.vm.apt import PackageError
from tests.vm.kernels import NEWEST
from tests.vm.ledger import LEDGER
from tests.vm.toolbox import Toolbox

# No example has a time limit, and none is too slow to be made: a machine that is busy with
# something else would fail either (seen at load 8: 30 s for the first document of a configuration).
_BUSY = [HealthCheck.too_slow]
settings.register_profile("pyinit", deadline=None, suppress_health_check=_BUSY)
# Of `make mutants`: a few examples, the same each time; whether a test fails is all that counts.
settings.register_profile(
    "mutants",
    deadline=None,
    suppress_health_check=_BUSY,
    derandomize=True,
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("pyinit")

_LEFT: set[str] = set()
_UNSEEN = "differs on a kernel that was never seen before: "


def pytest_itemcollected(item: pytest.Item) -> None:
    call = getattr(item, "callspec", None)
    if call is not None and call.params.get("role") == NEWEST:
        item.add_marker(NEWEST)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker(NEWEST) is None:
        return
    kernel = Toolbox().kernel(NEWEST)
    if not kernel.seen:
        item.add_marker(pytest.mark.xfail(strict=False, reason=_UNSEEN + kernel.version))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a mirror does not have is one line, however deep it was found."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(PackageError):
        report.longrepr = f"{call.excinfo.value}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="tests marked all_only too, whole sweeps")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--all"):
        os.environ["CFS_TESTS"] = "all"  # see tests/scope.py


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    left = [item for item in items if item.get_closest_marker("all_only")]
    if left:
        _LEFT.update(item.nodeid for item in left)
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended; one that crashed has no output, and is a failure by itself."""
    output = getattr(node, "workeroutput", {})
    LEDGER.add(output.get("guests", {}))
    _LEFT.update(output.get("left", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output |= {"guests": vars(LEDGER), "left": sorted(_LEFT)}
    elif LEDGER.too_many and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("xfailed"):
        if report.wasxfail.startswith(_UNSEEN):
            terminalreporter.write_line(f"{report.nodeid} {report.wasxfail}")
            terminalreporter.write_line(report.longreprtext[-3000:])
    for line in LEDGER.lines():
        terminalreporter.write_line(line, red=LEDGER.too_many)
    if _LEFT:
        terminalreporter.write_line(f"{len(_LEFT)} tests are for `make check-all` alone:")
    for name in sorted(_LEFT):
        terminalreporter.write_line(f"  {name}")
