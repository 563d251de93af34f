# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk that appears while the guest runs."""

import json
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.02


@contextmanager
def late_disk(disk: Path, log: Path, after: str) -> Iterator[list[str]]:
    """QEMU arguments for a virtio disk that is plugged in when `log`, the console, shows `after`
    (a regular expression)."""
    with tempfile.TemporaryDirectory() as directory:
        monitor = Path(directory) / "monitor"
        ended = threading.Event()
        thread = threading.Thread(target=_plug, args=(monitor, log, after, ended))
        thread.start()
        try:
            yield [
                *("-device", "pcie-root-port,id=late-port,chassis=1,slot=1"),
                *("-drive", f"if=none,id=late,format=raw,file={disk},snapshot=on"),
                *("-qmp", f"unix:{monitor},server=on,wait=off"),
            ]
        finally:
            ended.set()
            thread.join()


def _plug(monitor: Path, log: Path, after: str, ended: threading.Event) -> None:
    while not (log.exists() and re.search(after, log.read_text(errors="replace"))):
        if ended.wait(_POLL_SECONDS):
            return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(300)
        connection.connect(str(monitor))
        answers = connection.makefile()
        answers.readline()  # the greeting
        device = {"driver": "virtio-blk-pci", "drive": "late", "bus": "late-port"}
        for command in (
            {"execute": "qmp_capabilities"},
            {"execute": "device_add", "arguments": device},
        ):
            connection.sendall(json.dumps(command).encode() + b"\n")
            answers.readline()
