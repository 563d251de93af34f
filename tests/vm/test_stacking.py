# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who mounts one more overlay on a composed root: systemd-sysext, systemd-confext, services with
extensions, containers. In each mode all of them in one boot; state/stacking.py has the mounts
alone.

systemd-nspawn is not in the image: the mount that its --volatile=overlay makes is made by mount(8).
"""

import os
from pathlib import Path

import pytest

from .systemd_root import VOLATILE, SystemdRoot, boot_root, make_systemd_root
from .toolbox import Toolbox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")

LIMIT = 480
APPEND = "root=/dev/vda rw systemd.gpt_auto=0"
SCRIPT = """
echo "state: $(systemctl is-system-running --wait)"
echo "$(grep -o '"stackable": .[^]]*.' /run/cfs/root.json)"
for kind in extensions:usr confexts:etc; do
    at=/run/${kind%:*}/one/${kind#*:}
    mkdir -p $at/extension-release.d $at/lib/extension-release.d
    echo ID=_any | tee $at/extension-release.d/extension-release.one \\
        >$at/lib/extension-release.d/extension-release.one
    echo extended >$at/extended
done
systemd-sysext merge
echo "sysext: $? $(cat /usr/extended)"
systemd-confext merge
echo "confext: $? $(cat /etc/extended)"
echo "program: $(cat /etc/hostname) $(ls /usr/bin/sh)"
systemd-confext unmerge
systemd-sysext unmerge
run() { systemd-run -q --wait --pipe -p ExtensionDirectories=/run/extensions/one "$@"; }
echo "service: $(run cat /usr/extended)"
mkdir -p /run/again
# private: what is unmounted there would be unmounted everywhere else
mount --bind --make-private / /run/again
echo "root directory: $(run -p RootDirectory=/run/again cat /usr/extended)"
umount -l /run/again
"""
MODES: dict[str, dict[str, str]] = {
    "in-memory": {},
    "overlay": {"etc": "overlay", "var": "overlay"},
    "bind": {"etc": "bind", "var": "bind"},
    "transient-root": {"root": "transient", "etc": "none", "var": "none"},
    "transient-root-overlay": {"root": "transient", "etc": "overlay", "var": "transient-disk"},
}
_LATER = pytest.mark.all_only
CASES = [
    pytest.param(role, mode, marks=[] if (role, mode) == ("newest", "overlay") else _LATER)
    for role in ("stable", "newest")
    for mode in MODES
]


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.mark.parametrize(("role", "mode"), CASES)
def test_one_more_overlay(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path, role: str, mode: str
) -> None:
    settings = MODES[mode]
    console = boot_root(
        toolbox, root, tmp_path, role, SCRIPT + VOLATILE, settings=settings,
        carried=root.carried(root.first), append=APPEND, limit=LIMIT,
    )  # fmt: skip
    lines = console.results.decode(errors="replace").splitlines()
    # An older kernel takes no layers together with what the disk's upper layer must not do.
    full = role == "stable" and settings.get("etc") == "overlay"
    places = ["/", "/usr", "/etc", "/var"]
    if role == "stable":
        places = [path for path in places if settings.get(path[1:]) != "overlay"]
    assert "state: running" in lines
    assert f'"stackable": [{", ".join(f"{chr(34)}{path}{chr(34)}" for path in places)}]' in lines
    assert "sysext: 0 extended" in lines, lines
    assert ("confext: 0 extended" in lines) != full, lines
    assert "program: first /usr/bin/sh" in lines
    assert "service: extended" in lines, lines
    assert "root directory: extended" in lines, lines
    assert "volatile: 0 written" in lines, lines
