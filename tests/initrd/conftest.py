# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the tests of the initrd's code have in common."""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(scope="module", autouse=True)
def leave_no_descriptor() -> Iterator[None]:
    """What runs once in an initrd closes not all that it has opened. That goes with the module: a
    number over 256 is an object of its own, and other tests count allocations."""
    before = _descriptors()
    yield
    gc.collect()  # files that are objects close their own
    for fd in _descriptors() - before:
        with suppress(OSError):  # that of the list itself
            os.close(fd)


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}
