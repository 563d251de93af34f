# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The virtual machines themselves: that they report, end, and notice what is left behind."""

import pytest

from .cases import Case, CaseError, LazyResults, run_cases
from .toolbox import Toolbox

pytestmark = pytest.mark.vm

CASES = (
    Case("streams", "echo out; echo err >&2; exit 3", code=3, stdout="^out$", stderr="^err$"),
    Case(
        "unclean",
        "mount -t tmpfs x /mnt; truncate -s 1M /tmp/f; losetup /dev/loop3 /tmp/f;sleep 1000 & :",
        leaks=True,
    ),
    Case("clean", "mount -t tmpfs x /mnt; umount /mnt; ! pidof sleep"),
    Case("hangs", "echo begun; sleep 1000", limit=1, code=124, stdout="begun", leaks=True),
    Case("binary", "head -c 3 /dev/zero; echo '@ clean end 3'", stdout="@ clean end 3"),
    Case("fails", "exit 1"),
    Case("dies", "echo c >/proc/sysrq-trigger"),
    Case("after", "true"),
)


@pytest.fixture(scope="session")
def guest(toolbox: Toolbox) -> LazyResults:
    """All of them in one boot."""
    return LazyResults(lambda: run_cases(toolbox, toolbox.kernel("stable"), CASES))


@pytest.mark.parametrize("name", ["streams", "unclean", "clean", "hangs", "binary"])
def test_as_expected(guest: LazyResults, name: str) -> None:
    guest.check(name)


def test_what_is_left_behind(guest: LazyResults) -> None:
    leaks = guest["unclean"].leaks
    assert any(line.startswith("mount / /mnt ") for line in leaks), leaks
    assert "loop loop3 /tmp/f" in leaks
    assert any("sleep 1000" in line for line in leaks), leaks
    assert any(line.startswith("fd ") and line.endswith("/stdout") for line in leaks), leaks
    assert guest["clean"].leaks == []


def test_limit_of_a_case(guest: LazyResults) -> None:
    result = guest["hangs"]
    assert result.timed_out
    assert 1 <= result.seconds < 900


def test_an_unexpected_exit_fails(guest: LazyResults) -> None:
    with pytest.raises(CaseError, match="exit 1, expected 0"):
        guest.check("fails")


def test_a_dead_guest_fails_only_what_did_not_report(guest: LazyResults) -> None:
    with pytest.raises(CaseError, match=r"died in it(.|\n)*sysrq"):
        guest.check("dies")
    with pytest.raises(CaseError, match="never came to it"):
        guest.check("after")


def test_limit_of_a_guest(toolbox: Toolbox) -> None:
    results = run_cases(
        toolbox, toolbox.kernel("stable"), [Case("one", "true")], setup="sleep 1000", limit=8
    )
    assert results.console.timed_out
    with pytest.raises(CaseError, match="killed after"):
        results.check("one")


def test_failed_setup_is_said(toolbox: Toolbox) -> None:
    results = run_cases(
        toolbox, toolbox.kernel("stable"), [Case("one", "true")], setup="echo no disk; exit 5"
    )
    with pytest.raises(CaseError, match=r"set-up failed \(exit 5\): no disk"):
        results.check("one")
