# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Labels for SELinux, as libselinux finds them in the file_contexts of a policy: selabel_lookup(3).

The library is loaded where it is needed: nothing else does.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from pyinit.initrd.report.errors import Refused

LIBRARY = "libselinux.so.1"
_CTX_FILE, _OPT_PATH, _CB_LOG = 0, 3, 0


class _Option(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_char_p))


# What it says is no business of stderr's: who asks gets an error.
_SILENT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p)(lambda _, __: 0)


def labels(contexts: Path) -> Callable[[bytes, int], bytes]:
    """A function that gives the label of a path and a mode, as it is in an xattr; b"": it has none.
    Refused: there is no library, or the file is not of a policy."""

    def refused(why: str) -> Refused:
        return Refused("source", str(contexts), f"no file with labels: {why}")

    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError:
        raise refused(f"{LIBRARY} is not there") from None
    library.selabel_open.restype = ctypes.c_void_p
    library.selinux_set_callback(_CB_LOG, _SILENT)
    option = _Option(_OPT_PATH, os.fsencode(contexts))
    handle = library.selabel_open(_CTX_FILE, ctypes.byref(option), 1)
    if not handle:
        raise refused(os.strerror(ctypes.get_errno()))

    def label(path: bytes, mode: int) -> bytes:
        found = ctypes.c_char_p()
        done = library.selabel_lookup_raw(
            ctypes.c_void_p(handle), ctypes.byref(found), path, ctypes.c_int(mode)
        )
        if done != 0:
            number = ctypes.get_errno()
            if number == errno.ENOENT:
                return b""
            raise refused(f"{os.fsdecode(path)}: {os.strerror(number)}")
        text = (found.value or b"") + b"\0"
        library.freecon(found)
        return text

    return label
