# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Fixtures of the tests in virtual machines.

The pattern: cases are data, a session fixture boots them lazily and once, one test per case:

    CASES = (Case("hello", "echo hello", stdout="hello"), ...)

    @pytest.fixture(scope="session")
    def guest(toolbox):
        return LazyResults(lambda: run_cases(toolbox, toolbox.kernel("stable"), CASES))

    @pytest.mark.parametrize("name", [case.name for case in CASES])
    def test_case(guest, name): guest.check(name)
"""

from pathlib import Path

import pytest

from .once import REPOSITORY
from .product import another_build
from .rootdisk import RootDisk, make_rootdisk
from .store import Store, make_store
from .toolbox import Toolbox

_HERE = Path(__file__).parent
# For what hangs outside of guests, which have limits of their own (pace.py).
_HANGS_SECONDS = 7200
# A file is one worker's. One that takes minutes and is the last keeps the other worker idle.
_FIRST = ("faults/test_init_faults.py", "test_watch.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(_HANGS_SECONDS), append=False)
    first = [_HERE / name for name in _FIRST]
    items.sort(key=lambda item: first.index(item.path) if item.path in first else len(first))


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Tools and kernels."""
    return Toolbox()


@pytest.fixture(scope="session")
def store(toolbox: Toolbox) -> Store:
    """A repository with a small image, sealed."""
    return make_store(toolbox)


@pytest.fixture(scope="session")
def rootdisk(toolbox: Toolbox) -> RootDisk:
    return make_rootdisk(toolbox)


@pytest.fixture(scope="session")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose canary raises what nobody catches."""
    program = REPOSITORY / "tests/vm/programs/failing_canary.py"
    out = tmp_path_factory.mktemp("crashing")
    return another_build(out, replace={"pyinit.initrd.root.canary": program})
