# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A mount to give out: its attributes are locked, and it costs root no user namespace."""

from __future__ import annotations

import _cfs
import os


def locked(directory: int) -> int:
    """A detached clone of the mount. OSError.

    What comes out of the child keeps the child's user namespace, for as long as somebody holds it.
    There are few of them, and they count as root's. A clone that is made here keeps none. For that
    the first one is attached for a moment: over our root, where no path of ours leads, in the mount
    namespace that systemd made for this process.
    """
    first = _cfs.mount_clone_locked(directory)
    try:
        root = os.open("/", os.O_PATH)
        try:
            _cfs.mount_attach(first, root)
        finally:
            os.close(root)
        try:
            return _cfs.mount_clone(first, False)
        finally:
            _cfs.mount_detach(first)
    finally:
        os.close(first)
