# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Credentials that nobody has signed: systemd runs units and mounts by them, unless told not to."""

import base64
from collections.abc import Mapping
from pathlib import Path

NO_CREDENTIALS = "systemd.import_credentials=no"
# It says on the console that it has run: "bait: NAME", see bait.py.
_UNIT = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo bait: {name} >/dev/console'
"""


def unit(name: str) -> str:
    """The text of a unit that runs before all others."""
    return _UNIT.format(name=name)


def credentials(name: str) -> dict[str, str]:
    """Those that add the unit bait-`name`.service and have it run (systemd 256 and later)."""
    return {
        f"systemd.extra-unit.bait-{name}.service": unit(name),
        f"systemd.unit-dropin.sysinit.target~{name}": f"[Unit]\nWants=bait-{name}.service\n",
    }


def by_smbios(texts: Mapping[str, str]) -> list[str]:
    """QEMU's arguments for strings in the firmware's tables."""
    arguments = []
    for name, text in texts.items():
        encoded = base64.b64encode(text.encode()).decode()
        arguments += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={encoded}"]
    return arguments


def by_fw_cfg(texts: Mapping[str, str], directory: Path) -> list[str]:
    """QEMU's arguments for files of a device of its own; it takes no names beyond 28 bytes."""
    arguments = []
    for name, text in texts.items():
        path = directory / name
        path.write_text(text)
        arguments += ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={path}"]
    return arguments
