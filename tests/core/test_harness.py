# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Tests that find nothing because they cannot are worse than none."""

import os

from .core import Core


def _in_child(core: Core, size: int, said: int) -> int:
    """The exit code of a process that parses `size` bytes as if they were `said`."""
    pid = os.fork()
    if pid == 0:
        os.close(2)
        digest = core.ffi.new("struct cfs_digest *")
        block = core.buffer(b"a" * size)
        core.lib.cfs_digest_parse(core.ffi.cast("char *", block), said, digest)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_read_beyond_a_buffer_is_seen(core: Core) -> None:
    assert _in_child(core, 64, 64) == 0
    assert _in_child(core, 63, 64) != 0
