# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of `init` needs no machine of its own; the rest is in tests/vm/test_init.py, and each of its
calls failing once in tests/vm/faults/test_init_faults.py."""

import errno
import os
import posix

import pytest

from pyinit.initrd import devices, init
from pyinit.initrd.cmdline import CommandLine
from pyinit.initrd.config import Config
from pyinit.initrd.errors import CfsError, Refused
from pyinit.initrd.modules import Modules


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


@pytest.fixture
def driverless(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """A machine without disks, one of whose drivers did not load."""
    monkeypatch.setattr(devices, "names", list)
    modules = Modules("/nowhere")
    monkeypatch.setattr(modules, "coldplug", lambda: 0)
    modules.failed = {"virtio\nblk": "Exec format error (ENOEXEC)"}
    return modules


def refusal(root: str, modules: Modules) -> str:
    settings = Config()
    settings.root_wait = 0
    with pytest.raises(Refused) as caught:
        init.mount_disk(settings, CommandLine([("root", root)]), modules)
    return str(caught.value)


def test_a_disk_whose_driver_did_not_load(driverless: Modules) -> None:
    """It was only said to be missing."""
    assert refusal("/dev/vdq", driverless) == (
        "refused: store: /dev/vdq: not found after 0 s; there are: none; "
        r"drivers that did not load: virtio\nblk: Exec format error (ENOEXEC)"
    )
    driverless.failed = {}
    assert refusal("/dev/vdq", driverless).endswith("there are: none")


def test_no_driver_is_blamed_for_a_root_that_nobody_could_find(driverless: Modules) -> None:
    assert "drivers" not in refusal("LABEL=root", driverless)
