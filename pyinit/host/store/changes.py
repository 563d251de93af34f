# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an image has otherwise than the directory that it is made of (csrc/host/adjust.h)."""

from __future__ import annotations

import _cfs
import _cfshost
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pyinit.initrd.report.errors import UsageError

EPOCH = "SOURCE_DATE_EPOCH"
_LIMIT = 1 << 63


class Changes(NamedTuple):
    """What of a directory is left out or changed: `excluded` by glob(7) of paths, which begin with
    a slash; `bootable` as composefs-rs does it; `by_root`: all is root's; `latest`: no
    time is later, in seconds; `contexts`: labels for SELinux by that file."""

    excluded: tuple[str, ...] = ()
    bootable: bool = False
    by_root: bool = False
    latest: int | None = None
    contexts: Path | None = None

    def adjustment(self, algorithm: int = _cfs.SHA256) -> _cfshost.Adjustment:
        """The same for the engine, which knows contents by digests of `algorithm`."""
        excluded = [os.fsencode(pattern) for pattern in self.excluded]
        label = None
        if self.contexts is not None:
            from pyinit.host.store import selinux  # and ctypes, which few need

            label = selinux.labels(self.contexts)
        return _cfshost.Adjustment(
            self.bootable, self.by_root, self.latest, excluded, label, algorithm
        )


AS_IT_IS = Changes()


def latest(environment: Mapping[str, str]) -> int:
    """SOURCE_DATE_EPOCH. UsageError: it has no seconds."""
    text = environment.get(EPOCH, "")
    # The length bounds the work: Python converts no number of thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) >= _LIMIT:
        raise UsageError("usage", "--clamp-mtime", f"{EPOCH}={text}", "a time there, in seconds")
    return int(text)
