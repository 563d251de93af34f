# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An OSError of the host as the failure that the commands report."""

import os

from pyinit.initrd.report.errors import SystemFailure, os_error


def system_failure(error: OSError, path: str | None = None, step: str = "source") -> SystemFailure:
    """The failure of `step`, with the kernel's words. `path`: else the error's own file name."""
    where = path if path is not None else error.filename
    return SystemFailure(step, os.fsdecode(where) if where else "?", os_error(error))
