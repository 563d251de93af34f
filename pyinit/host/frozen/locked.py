# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One build at a time where builds keep their files in one place."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among those that lock `path`, which is made. It waits."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
