# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of `init` needs no machine of its own; the rest is in tests/vm/test_init.py, and each of its
calls failing once in tests/vm/faults/test_init_faults.py."""

import errno
import os
import posix

import pytest

from pyinit.initrd.programs import init
from pyinit.initrd.report.errors import CfsError
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config


@pytest.mark.parametrize(
    ("number", "verdict"), [(errno.EAGAIN, "refused"), (errno.ENOMEM, "error")]
)
def test_no_process_to_compose_in_is_told_by_its_step(
    monkeypatch: pytest.MonkeyPatch, number: int, verdict: str
) -> None:
    """It was a traceback."""

    def fork() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(posix, "fork", fork)
    with pytest.raises(CfsError) as caught:
        init.compose_in_child(Config(), CommandLine([]), (), None)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{verdict}: attach: /sysroot: {os.strerror(number)}")
