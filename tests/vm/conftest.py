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

import pytest

from .store import Store, make_store
from .toolbox import Toolbox


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Tools and kernels."""
    return Toolbox()


@pytest.fixture(scope="session")
def store(toolbox: Toolbox) -> Store:
    """A repository with a small image, sealed."""
    return make_store(toolbox)
