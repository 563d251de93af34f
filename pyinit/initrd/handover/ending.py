# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How a machine ends whose root was refused: by the configured action, in every initrd."""

import _cfs
import time

from pyinit.initrd.report import output
from pyinit.initrd.report.errors import os_error
from pyinit.initrd.source.config import Config

_RESTART, _POWER_OFF = 0x01234567, 0x4321FEDC  # LINUX_REBOOT_CMD_* of <linux/reboot.h>


def wants_shell(settings: Config) -> bool:
    """Does the configuration ask for a shell? The command line cannot."""
    return settings.failure == "shell"


def end(name: str, settings: Config) -> None:
    """Waits as configured, then reboots or powers off. It returns only where the kernel refuses.

    A shell that is wanted is the caller's matter: to end after all is to reboot.
    """
    action = "poweroff" if settings.failure == "poweroff" else "reboot"
    delay = settings.failure_delay
    output.last(f"{name}: {action} in {delay} s\n")
    time.sleep(delay)
    try:
        _cfs.reboot(_POWER_OFF if action == "poweroff" else _RESTART)
    except OSError as error:
        output.last(f"{name}: {action}: {os_error(error)}\n")
